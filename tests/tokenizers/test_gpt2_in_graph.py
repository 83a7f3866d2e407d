"""Pairs that merge at the same time; test_in_graph_base has the rest."""

import numpy as np
import tensorflow as tf

from minigpt import tokenizers
from minigpt.tokenizers import gpt2_in_graph

NEVER = 2**31 - 1


def merging(ranks, size=600):
  """Returns which pairs of one piece merge at once; `ranks` by position."""
  rank = np.full([size], NEVER, np.int32)
  rank[list(ranks)] = list(ranks.values())
  merges = gpt2_in_graph.merging_pairs(
    tf.constant(rank), tf.zeros([size], tf.int32)
  )
  return np.flatnonzero(merges).tolist()


def test_merges_wait_for_lower_ranks_that_may_overtake_them():
  assert merging({}) == []
  assert merging({5: 300}) == [5]
  # A chain of merges reaches as far as the longest token, 128 bytes.
  for gap in [1, 2, 3, 64, 127]:
    for start in [0, 1, 127, 128, 200]:
      assert merging({start: 300, start + gap: 301}) == [start]
      assert merging({start: 301, start + gap: 300}) == [start + gap]
  # Pairs farther away do not wait, or long words would take many rounds.
  assert merging({0: 300, 512: 301}) == [0, 512]
  assert merging({0: 301, 512: 300}) == [0, 512]


def test_words_merge_side_by_side():
  rank = tf.constant([300, NEVER, 500, NEVER, NEVER, 400, 399, NEVER])
  owner = tf.constant([0, 0, 1, 1, 2, 3, 3, 3])
  merges = gpt2_in_graph.merging_pairs(rank, owner)
  assert np.flatnonzero(merges).tolist() == [0, 2, 6]


def test_of_overlapping_pairs_every_other_one_merges_from_the_left():
  assert merging({10: 300, 11: 300, 12: 300, 20: 300}) == [10, 12, 20]
  # The start of the run of 302s is unknown until 301 has merged.
  run = dict.fromkeys(range(2, 400), 302)
  assert merging({1: 301} | run) == [1]


def test_a_vocabulary_of_bytes_merges_nothing():
  tokenizer = tokenizers.build('bpe', 'ab', vocab_size=257)
  text = 'a b\u00e9'
  ids = tokenizer.in_graph().encode(tf.constant([text]), 'text')
  assert ids.to_list() == [tokenizer.encode(text).tolist()]
  assert len(ids[0]) == len(text.encode())
