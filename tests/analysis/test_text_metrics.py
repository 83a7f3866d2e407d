"""Distances between texts, against their recursive definition."""

import functools

from hypothesis import given
from hypothesis import strategies as st

from minigpt.analysis import text_metrics


def slow_distance(a, b):
  @functools.cache
  def distance(i, j):
    if not (i and j):
      return i + j
    return min(
      distance(i - 1, j) + 1,
      distance(i, j - 1) + 1,
      distance(i - 1, j - 1) + (a[i - 1] != b[j - 1]),
    )

  return distance(len(a), len(b))


@given(st.text('abc', max_size=9), st.text('abc', max_size=9))
def test_edit_distance_is_the_recursion(a, b):
  assert text_metrics.edit_distance(a, b) == slow_distance(a, b)


def test_character_error_rate_weighs_texts_by_their_length():
  found = text_metrics.character_error_rate(['kitten', 'a'], ['sitting', 'a'])
  assert found == 3 / 8
