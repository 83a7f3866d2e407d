"""Windows of a text, and their order."""

import numpy as np
import pytest

from minigpt.data.windows import (
  Windows,
  fingerprint,
  make_windows,
  window_order,
)
from minigpt.errors import InputError, UsageError


def windows_of(n_tokens, context_length=4, stride=1):
  return make_windows(np.arange(n_tokens), context_length, stride, n_tokens)


def test_windows_start_at_multiples_of_the_stride():
  assert windows_of(12, stride=3).n_examples == 3  # 0, 3 and 6; 7 is the last
  assert windows_of(12, stride=0).n_examples == 2  # 0 and 4
  assert windows_of(5).at(np.array([0])).tolist() == [[0, 1, 2, 3, 4]]


def test_an_epoch_visits_every_window_once_and_each_in_another_order():
  windows = windows_of(24)
  n = windows.n_examples
  for seed in range(3):
    starts = window_order(windows, np.arange(3 * n), seed).reshape(3, n)
    for epoch in starts:
      assert sorted(epoch) == list(range(n))
    assert (starts[0] != starts[1]).mean() > 0.5
    assert (starts[0] != np.arange(n)).mean() > 0.5


@pytest.mark.parametrize('n', [65_537, 262_145, 65_536, 65_538, 131_073])
def test_an_epoch_of_any_length_visits_every_window_once(n):
  """With 4^k + 1 windows, the kernel repeats one and omits another."""
  windows = Windows(np.empty([n + 4], np.uint8), 4, 1)
  assert windows.n_examples == n
  first, second = window_order(windows, np.arange(2 * n), seed=3).reshape(2, n)
  for epoch in (first, second):
    np.testing.assert_array_equal(np.bincount(epoch, minlength=n), 1)
  assert (first != second).mean() > 0.99
  # Any batch can be computed directly.
  places = np.array([[n - 1, 0], [n, 5]])
  expected = np.concatenate([first, second])[places]
  np.testing.assert_array_equal(window_order(windows, places, 3), expected)


def test_order_is_shuffled_evenly_for_every_seed():
  """Each window is the first of an epoch about equally often."""
  windows = windows_of(8)  # four windows
  for seed in range(2):
    firsts = window_order(windows, np.arange(0, 4000, 4), seed)
    assert np.bincount(firsts, minlength=4).min() > 200


def test_short_texts_and_foreign_ids_are_refused():
  with pytest.raises(UsageError, match=r'4 tokens, fewer than .* = 5'):
    make_windows(np.arange(4), 4, 1, 100)
  with pytest.raises(InputError, match='id 70 at position 3'):
    make_windows(np.array([1, 2, 3, 70, 4, 80]), 4, 1, 65)


def test_the_fingerprint_does_not_depend_on_the_chunks():
  a = fingerprint(np.arange(10), np.arange(5), chunk=3)
  assert a == fingerprint(np.arange(10), np.arange(5))
  assert a.n_tokens == 15
