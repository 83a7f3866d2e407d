"""Logits processors by hand; test_beam_search has `transformers`."""

import numpy as np
import tensorflow as tf
from hypothesis import given
from hypothesis import strategies as st

from minigpt.generation import logits_processors
from minigpt.generation.request import Request


def test_each_row_has_its_own_rules():
  logits = tf.constant([[2.0, -1.0, 0.5], [2.0, -1.0, 0.5]])
  rules = logits_processors.Rules(
    repetition_penalty=tf.constant([2.0, 1.0]),
    min_new_tokens=tf.constant([0, 3]),
    bias=tf.constant([[0.0, 0.0, 0.0], [0.0, 0.0, 1.0]]),
  )
  window = tf.constant([[0, 1, 2], [0, 1, 2]])
  found = logits_processors.apply(
    logits, rules, window, tf.constant([2, 2]), tf.constant([2, 2]), 1
  )
  # Token 2 is beyond the length, so it does not count as seen.
  assert found.numpy().tolist() == [[1.0, -2.0, 0.5], [2.0, -np.inf, 1.5]]


PIECES = [b'a', b'b', b'ab', b'ba', b'aab', b'bb', b'c']


@given(
  st.lists(st.integers(0, 6), min_size=1, max_size=12),
  st.lists(st.text('abc', min_size=1, max_size=4), min_size=1, max_size=3),
)
def test_banned_are_the_tokens_that_would_complete_a_string(ids, strings):
  banned = logits_processors.ban(strings, PIECES)
  window = np.zeros([1, 12], np.int32)
  window[0, : len(ids)] = ids
  found = logits_processors.completing(
    banned, tf.constant(window), tf.constant([len(ids)])
  )
  text = b''.join(PIECES[i] for i in ids)
  want = [
    any(
      (text + piece).find(string.encode(), max(len(text) - len(string) + 1, 0))
      >= 0
      for string in strings
    )
    for piece in PIECES
  ]
  assert found.numpy()[0].tolist() == want


def test_rules_are_those_of_the_request():
  options = Request(repetition_penalty=1.5, min_new_tokens=3).options(2)
  rules = logits_processors.select_rules(options)
  assert rules.repetition_penalty.numpy().tolist() == [1.5, 1.5]
  assert rules.min_new_tokens.numpy().tolist() == [3, 3]
  assert rules.bias == () and rules.banned == ()
