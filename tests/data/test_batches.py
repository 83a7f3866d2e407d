"""Training batches are functions of (seed, step); evaluation is in order."""

import numpy as np
import pytest
import tensorflow as tf

from minigpt.data.batches import batch_numbers, eval_batches, train_batches
from minigpt.data.windows import make_windows


def windows_of(n_tokens, context_length=4, stride=1):
  return make_windows(np.arange(n_tokens), context_length, stride, n_tokens)


def batches(windows, calls, length, shape=(1, 2), seed=0):
  return list(train_batches(windows, shape, seed, calls, length))


def test_a_batch_is_a_function_of_seed_and_step():
  windows = windows_of(40)
  one_by_one = batches(windows, [range(i, i + 1) for i in range(6)], 1)
  in_one = batches(windows, [range(6)], 6)[0]
  np.testing.assert_array_equal(np.concatenate(one_by_one), in_one)
  later = batches(windows, [range(4, 6)], 2)[0]
  np.testing.assert_array_equal(later, in_one[4:])
  assert (batches(windows, [range(6)], 6, seed=1)[0] != in_one).any()
  assert in_one.shape == (6, 1, 2, 5)


@pytest.mark.parametrize('n', [2, 9, 10, 23, 24, 25])
@pytest.mark.parametrize('stride', [0, 1, 3])
def test_evaluation_scores_every_token_but_the_first_once(n, stride):
  counts = np.zeros(n)
  for batch in eval_batches(np.arange(n), 8, 2, stride):
    assert batch.windows.shape == (2, 9)
    targets = batch.windows[:, 1:][batch.weights == 1]
    np.add.at(counts, targets, 1)
  assert counts.tolist() == [0] + [1] * (n - 1)


def test_a_short_stride_gives_scored_tokens_more_context():
  first, second = eval_batches(np.arange(12), 8, 1, stride=3)
  assert first.weights.tolist() == [[1] * 8]
  assert second.windows[0, 0] == 3
  assert second.weights.tolist() == [[0] * 5 + [1] * 3]


def test_limited_evaluation_is_spread_over_the_text():
  found = list(eval_batches(np.arange(1000), 8, 2, limit=3))
  assert len(found) == 3
  assert found[0].windows[0, 0] == 0 and found[-1].windows[-1, 0] > 950


def test_the_end_of_the_batches_waits_for_nobody(monkeypatch):
  """The thread that autotunes would delay it for up to a minute."""
  made = []
  iterate = tf.data.Dataset.as_numpy_iterator

  def noting(dataset):
    made.append(dataset)
    return iterate(dataset)

  monkeypatch.setattr(tf.data.Dataset, 'as_numpy_iterator', noting)
  assert len(batches(windows_of(20), [range(2)], 2)) == 1
  assert made[0].options().autotune.enabled is False


def test_skipped_batches_are_given_to_no_step():
  numbers = batch_numbers(np.arange(6), [1, 2, 6])
  np.testing.assert_array_equal(numbers, [0, 3, 4, 5, 7, 8])
