"""Figures of evaluation results."""

import json

import numpy as np
import pytest

from minigpt.analysis import evaluation_figures as drawn
from minigpt.analysis.perplexity import PositionSums

pytest.importorskip('matplotlib')


def make_sums(losses, n):
  """Sums of n tokens at each position, half of them 1 nat above the mean."""
  losses, n = np.array(losses, float), np.array(n, float)
  return PositionSums(n * losses, n * (losses**2 + 1), 0 * n, n)


def test_a_short_window_has_a_point_for_each_position():
  seen, mean, error = drawn.position_curve(make_sums([3, 2, 1], [101] * 3))
  assert seen.tolist() == [1, 2, 3]
  assert mean.tolist() == [3, 2, 1]
  # A variance of 1, over 100 degrees of freedom.
  assert error == pytest.approx([0.196] * 3)


def test_a_long_window_has_few_points_that_keep_the_mean():
  sums = make_sums(np.arange(1024), [4] * 1024)
  seen, mean, _ = drawn.position_curve(sums)
  assert len(seen) <= 40
  # The loss at position t is t, after t + 1 tokens.
  np.testing.assert_allclose(mean, seen - 1)


def test_positions_that_only_the_first_window_scores_are_left_out():
  sums = make_sums(range(8), [1] * 6 + [50] * 2)
  assert drawn.position_curve(sums)[0].tolist() == [7, 8]
  axes = drawn.loss_by_position(sums, 'a run').axes[0]
  assert axes.get_xscale() == 'linear'
  assert axes.get_ylabel() == 'loss (nats per token)'
  # 106 tokens, as all positions count here.
  assert axes.get_legend_handles_labels()[1] == ['mean 6.274']


def test_the_interval_is_wilsons():
  # Newcombe 1998, table I, method 3: 81 of 263, and 0 of 20.
  assert drawn.wilson_interval(81 / 263, 263) == pytest.approx(
    (0.2553, 0.3662), abs=5e-5
  )
  low, high = drawn.wilson_interval(0.0, 20)
  assert low == 0 and high == pytest.approx(0.1611, abs=5e-5)


def test_the_newest_result_of_each_task_is_drawn(tmp_path):
  def record(task, checkpoint='b', **found):
    return dict(checkpoint=checkpoint, task=task, dataset='d.jsonl', **found)

  records = [
    record('choice', accuracy=0.9, examples=50),
    record('choice', accuracy=0.5, accuracy_norm=0.6, chance=0.25, examples=50),
    record('choice', checkpoint='a', accuracy=0.1, examples=50),
    record('text', accuracy=0.3, tokens=99),
    record('pairs', exact_match=1.0, examples=8),
  ]
  file = tmp_path / 'evaluations.jsonl'
  lines = [json.dumps(r) for r in records]
  file.write_text('\n'.join([*lines, '{"checkpoint": "b", "ta']))
  found = drawn.newest(file, 'b')
  assert found == [records[1], records[4]]
  axes = drawn.accuracies(found, 'a run').axes[0]
  assert axes.get_xlabel().endswith('(gray: by chance)')
  [without] = drawn.accuracies(found[1:], 'a run').axes
  assert without.get_xlabel().endswith('interval')
  names = [label.get_text() for label in axes.get_yticklabels()]
  assert names == [
    'choice\nd.jsonl, n = 50',
    'choice by length\nd.jsonl, n = 50',
    'pairs exact\nd.jsonl, n = 8',
  ]
  assert [text.get_text() for text in axes.texts] == [
    '50.0%',
    '60.0%',
    '100.0%',
  ]
