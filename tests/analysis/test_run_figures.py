"""Figures of runs, and `minigpt plots`."""

import json

import helpers
import numpy as np
import pytest

from minigpt.analysis import figures, run_figures
from minigpt.errors import InputError

pytest.importorskip('matplotlib')


def make_run(path, n_steps, level=0.0):
  path.mkdir()
  with open(path / 'metrics.jsonl', 'w') as file:
    for step in range(1, n_steps + 1):
      metrics = {'step': step, 'train_loss': level + 4 / step}
      metrics |= {'learning_rate': 0.1 * step, 'grad_norm': 10.0**step}
      if step % 2 == 0:
        metrics |= {'val_loss': level + 5 / step, 'val_accuracy': step / 10}
      file.write(json.dumps(metrics) + '\n')
  return path


def lines(panel):
  return {line.get_label(): line for line in panel.get_lines()}


def test_one_run_has_its_losses_in_one_panel(tmp_path):
  figure = run_figures.curves([make_run(tmp_path / 'a', 4)])
  assert figure.get_suptitle() == 'a'
  loss, accuracy, rate, norm = figure.axes
  found = lines(loss)
  assert list(found['training'].get_ydata()) == [4, 2, 4 / 3, 1]
  assert list(found['validation'].get_xdata()) == [2, 4]
  assert list(found['validation'].get_ydata()) == [2.5, 1.25]
  assert list(lines(accuracy)['validation'].get_ydata()) == [0.2, 0.4]
  [line] = rate.get_lines()
  assert list(line.get_ydata()) == pytest.approx([0.1, 0.2, 0.3, 0.4])
  [line] = norm.get_lines()
  assert list(line.get_ydata()) == [10, 100, 1000, 10000]
  assert (norm.get_yscale(), rate.get_yscale()) == ('log', 'linear')
  assert loss.get_ylabel() == 'nats per token'
  assert all(panel.get_xlabel() == 'step' for panel in figure.axes)


def test_many_runs_are_side_by_side_and_keep_their_colour(tmp_path):
  runs = [make_run(tmp_path / 'a', 4), make_run(tmp_path / 'b', 6, level=1)]
  figure = run_figures.curves(runs)
  titles = [panel.get_title() for panel in figure.axes]
  losses = ['training loss', 'validation loss']
  assert titles == [*losses, 'learning rate', 'gradient norm']
  colors = set()
  for panel in figure.axes:
    found = lines(panel)
    assert list(found) == ['a', 'b']
    colors.add((found['a'].get_color(), found['b'].get_color()))
  assert colors == {('C0', 'C1')}
  train, val, *_ = figure.axes
  assert list(lines(val)['b'].get_ydata()) == [3.5, 2.25, 1 + 5 / 6]
  assert train.get_ylim() == val.get_ylim()


def test_runs_of_the_same_name_are_both_drawn(tmp_path):
  for folder in ('x', 'y'):
    (tmp_path / folder).mkdir()
  runs = [make_run(tmp_path / folder / 'a', 4) for folder in ('x', 'y')]
  assert len(run_figures.curves(runs).axes[0].get_lines()) == 2


def test_a_name_is_no_mathematics(tmp_path):
  runs = [make_run(tmp_path / name, 2) for name in ('$a_{$', 'b')]
  [picture] = figures.save(run_figures.curves(runs), tmp_path / 'a.svg')
  assert '$a_{$' in picture.read_text()


def test_what_was_not_recorded_has_no_panel(tmp_path):
  run = make_run(tmp_path / 'a', 1)
  titles = [panel.get_title() for panel in run_figures.curves([run]).axes]
  assert titles == ['loss', 'learning rate', 'gradient norm']


def test_a_long_curve_is_averaged():
  metrics = [{'step': i, 'train_loss': i % 2} for i in range(10_000)]
  steps, values = run_figures.curve(metrics, 'train_loss')
  assert len(steps) == 1000
  assert steps[0] == np.mean(range(10))
  assert set(values) == {0.5}


def test_a_run_without_steps_is_named(tmp_path):
  (tmp_path / 'empty').mkdir()
  with pytest.raises(InputError, match='empty holds no metrics'):
    run_figures.curves([tmp_path / 'empty'])


def test_the_program_writes_png_and_svg(tmp_path):
  make_run(tmp_path / 'a', 4)
  make_run(tmp_path / 'b', 4)
  result = helpers.run('-m', 'minigpt', 'plots', 'a', 'b', cwd=tmp_path)
  assert (result.returncode, result.stdout) == (0, 'losses.png\nlosses.svg\n')
  assert (tmp_path / 'losses.png').read_bytes()[1:4] == b'PNG'
  assert '<svg' in (tmp_path / 'losses.svg').read_text()
