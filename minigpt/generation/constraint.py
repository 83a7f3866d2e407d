"""A grammar in the loop over tokens: what may come next, row by row.

Each row has one integer of state. A token is allowed where a grammar's text can
go on with it, and still be complete within the tokens that the row has left. So
an answer always matches, and is never cut.

Shapes: B rows, V vocabulary, C classes of tokens.
"""

import math
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from minigpt.generation.grammar_table import FREE, GrammarTable
from minigpt.generation.regex_automaton import DEAD

# A logit that an allowed token has at least, so that it is never hidden.
_LOWEST = -1e9


class Tables(NamedTuple):
  """A `GrammarTable` as tensors."""

  next_state: tf.Tensor  # int32 [S, C]
  token_class: tf.Tensor  # int32 [V]
  distance: tf.Tensor  # int32 [S]
  ends: tf.Tensor  # bool [S]


class Constraint(NamedTuple):
  """What the rows of a batch have to keep to."""

  tables: Tables
  limit: tf.Tensor  # int32 [B], `n_sampled` with which a row must be complete


def tables(table: GrammarTable) -> Tables:
  """Returns what the loop needs of a table."""
  return Tables(*(tf.constant(getattr(table, n)) for n in Tables._fields))


def start_states(table: GrammarTable, names: list[str]) -> np.ndarray:
  """Returns the state of rows under grammars of these names, int32 [B].

  An empty name is no grammar.
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

  The most likely of those allowed gets 0, as a small temperature must not
  hide all of them. A row without a grammar is left as it is.

  Args:
    logits: f32 [B, V].
    constraint: of the rows.
    state: int32 [B].
    n_sampled: int32 [B].
  """

  def masked():
    is_allowed = allowed(constraint, state, n_sampled)
    kept = tf.where(is_allowed, tf.maximum(logits, _LOWEST), -math.inf)
    # A row that has ended is allowed nothing.
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


def follow(tables: Tables, state: tf.Tensor, token: tf.Tensor) -> tf.Tensor:
  """Returns the states after a token each; int32 [...], the same -> the same.

  Below 0 the text is complete, and cannot go on.
  """
  kind = tf.gather(tables.token_class, token)
  place = tf.stack([tf.maximum(state, DEAD), kind], -1)
  after = tf.gather_nd(tables.next_state, place)
  return tf.where(tf.gather(tables.ends, after), -1, after)
