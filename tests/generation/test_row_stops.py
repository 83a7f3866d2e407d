"""Stop strings by row, compared with the host's automaton."""

import numpy as np
import pytest
import tensorflow as tf

from minigpt.generation import automaton, row_stops

# Tokens of one byte, many bytes, parts of characters, and no bytes.
TOKENS = [b'a', b'b', b'ab', b'ba', b'aab', b'\xe6\xbc', b'\xa2', b'\0', b'end']
END = 8
STOPS = [['aba', 'bb'], ['\u6f22', ''], ['', ''], ['a\0', 'abababab']]


def ends_of(tokens, stops):
  """Returns whether each token completes a string, computed on the host."""
  machine = automaton.build([s.encode() for s in stops if s])
  state, found = 0, []
  for token in tokens:
    data = b'' if token == END else TOKENS[token]
    # The text ends where a string completes, so that state is not compared.
    state, at = automaton.feed(machine, state, data)
    found.append(at is not None)
    if at is not None:
      break
  return found


@pytest.mark.parametrize('n_before', [0, 1, 7])
def test_a_row_ends_with_the_token_that_completes_its_string(n_before):
  spelling = row_stops.spell(TOKENS, END)
  stops = row_stops.read(tf.constant(STOPS), spelling)
  advance = tf.function(row_stops.advance, autograph=False)
  ended = np.zeros([4], int)
  for seed in range(40):
    tokens = np.random.default_rng(seed).integers(9, size=[4, 14]).astype('i4')
    tokens[:, :1] = 0  # A prompt, which completes nothing.
    ids = tf.constant(tokens[:, : n_before + 1])
    n_sampled = tf.fill([4], n_before)
    expected = [
      ends_of(row[1:], own) for row, own in zip(tokens, STOPS, strict=True)
    ]
    recent = row_stops.start(stops, ids, tf.fill([4], n_before + 1), n_sampled)
    for i in range(n_before, 13):
      recent, ends = advance(stops, recent, tf.constant(tokens[:, i + 1]))
      for row in range(4):
        if i < len(expected[row]):
          assert ends[row] == expected[row][i], (seed, row, i)
          ended[row] += expected[row][i]
  assert ended[2] == 0 and ended[0] > 5 and ended[1] > 0 and ended[3] > 0
