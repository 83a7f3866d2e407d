"""Grammars in the decoding loop: which tokens each row may sample next.

The state of a row is one integer. A token is allowed if the text with it can
still be completed, according to the grammar, within the tokens that the row has
left. So every answer matches its grammar, and none is cut short.

Shapes: B rows, V vocabulary, C classes of tokens.
"""

import math
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from minigpt.generation.grammar_table import FREE, GrammarTable
from minigpt.generation.regex_automaton import DEAD

# Allowed tokens get at least this logit, so that none of them is hidden.
_LOWEST = -1e9


class Tables(NamedTuple):
  """A `GrammarTable` as tensors."""

  next_state: tf.Tensor  # int32 [S, C]
  token_class: tf.Tensor  # int32 [V]
  distance: tf.Tensor  # int32 [S]
  onward: tf.Tensor  # int32 [S]
  ends: tf.Tensor  # bool [S]


class Constraint(NamedTuple):
  """The grammars of a batch."""

  tables: Tables
  limit: tf.Tensor  # int32 [B], `n_sampled` at which a row must be complete


def tables(table: GrammarTable) -> Tables:
  """Returns the arrays of a table that the loop reads, as tensors."""
  return Tables(*(tf.constant(getattr(table, n)) for n in Tables._fields))


def start_states(table: GrammarTable, names: list[str]) -> np.ndarray:
  """Returns the first state of rows with these grammars, int32 [B].

  The empty name stands for no grammar.
  """
  known = dict(zip(table.names, table.start.tolist(), strict=True))
  return np.array([known[n] if n else FREE for n in names], np.int32)


def mask(
  logits: tf.Tensor,
  constraint: Constraint,
  state: tf.Tensor,
  n_sampled: tf.Tensor,
) -> tf.Tensor:
  """Hides the tokens that a grammar forbids; f32 [B, V] -> f32 [B, V].

  The logits of a row with a grammar are shifted so that its most likely allowed
  token has 0; otherwise a low temperature could hide all of them. The logits of
  a row without a grammar stay unchanged.

  Args:
    logits: f32 [B, V].
    constraint: the grammars.
    state: int32 [B], each row's state.
    n_sampled: int32 [B], the number of new tokens in each row.
  """

  def masked():
    is_allowed = allowed(constraint, state, n_sampled)
    kept = tf.where(is_allowed, tf.maximum(logits, _LOWEST), -math.inf)
    # A row that has ended allows no token, and -inf - -inf would be NaN.
    kept -= tf.maximum(tf.reduce_max(kept, -1, keepdims=True), _LOWEST)
    return tf.where((state == FREE)[:, None], logits, kept)

  return tf.cond(tf.reduce_any(state != FREE), masked, lambda: logits)


def allowed(
  constraint: Constraint, state: tf.Tensor, n_sampled: tf.Tensor
) -> tf.Tensor:  # int32 [B], int32 [B] -> bool [B, V]
  """Finds the tokens after which each row can still be completed."""
  after = tf.gather(constraint.tables.next_state, tf.maximum(state, DEAD))
  n_needed = tf.gather(constraint.tables.distance, after)  # [B, C]
  n_left = constraint.limit - n_sampled - 1
  return tf.gather(
    n_needed <= n_left[:, None], constraint.tables.token_class, axis=1
  )


def follow(
  tables: Tables, state: tf.Tensor, token: tf.Tensor, n_left: tf.Tensor
) -> tf.Tensor:  # int32 [...], four times -> int32 [...]
  """Returns the state after each token.

  A state below 0 says that the text is complete and cannot go on: by its
  grammar, or with the `n_left` tokens that may still follow.
  """
  kind = tf.gather(tables.token_class, token)
  place = tf.stack([tf.maximum(state, DEAD), kind], -1)
  after = tf.gather_nd(tables.next_state, place)
  has_ended = tf.gather(tables.ends, after) | (
    (n_left > 0) & (tf.gather(tables.onward, after) > n_left)
  )
  return tf.where(has_ended, -1, after)
