"""The search for stop strings, compared with a brute-force search."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from minigpt.generation import automaton

PIECES = [b'a', b'b', b'ab', b'ba', b'aab', b'bbabb', b'c', b'']
strings = st.lists(st.text('abc', min_size=1, max_size=4), max_size=4)


def stop(text, stops):
  """Returns start and end of the first stop to complete, or the longest."""
  for end in range(len(text) + 1):
    starts = [end - len(s) for s in stops if text[:end].endswith(s)]
    if starts:
      return min(starts), end
  return None


@pytest.mark.parametrize(
  ('text', 'stops', 'before'),
  [
    ('xabcd', ['abcd', 'bc'], 'xa'),  # bc completes before abcd.
    ('xabcd', ['bcd', 'abcd', 'd'], 'x'),  # All at once: the longest.
    ('aaab', ['aab'], 'a'),
    ('x\u00e9\u00e9.', ['\u00e9.', '.\u00e9'], 'x\u00e9'),
    ('abc', [], 'abc'),
  ],
)
def test_the_first_stop_to_complete_ends_the_text(text, stops, before):
  assert automaton.until(text.encode(), stops).decode() == before


@given(st.text('abc', max_size=12), strings)
def test_until_is_the_search_of_every_end(text, stops):
  found = stop(text, stops)
  want = text if found is None else text[: found[0]]
  assert automaton.until(text.encode(), stops) == want.encode()


@given(st.lists(st.integers(0, 7), max_size=12), strings)
def test_tokens_stop_where_the_text_does(ids, stops):
  """The last token is the end of text, whose bytes do not count."""
  end = len(PIECES)
  table = automaton.stop_table(stops, [*PIECES, b'abc'], end)
  state, text = 0, ''
  for i in [*ids, end]:
    state, text = table[state, i], text + [*PIECES, b''][i].decode()
    if state < 0:
      break
  found = stop(text, stops)
  assert (state < 0) == (found is not None)
  if found:
    assert len(text) + state == found[0]


def test_a_state_is_the_longest_beginning():
  of_two = automaton.build([b'abab', b'bac'])
  state, _ = automaton.feed(of_two, 0, b'xaba')
  assert of_two.depth[state] == 3
  state, _ = automaton.feed(of_two, state, b'a')
  assert of_two.depth[state] == 1
  assert np.array_equal(of_two.step[0] > 0, np.isin(np.arange(256), [97, 98]))
