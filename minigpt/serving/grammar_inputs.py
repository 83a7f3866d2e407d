"""The grammar of each row, as an input of signatures.

Shapes: B rows, G grammars, S states.
"""

from typing import NamedTuple

import tensorflow as tf

from minigpt.generation import constraint
from minigpt.generation.constraint import Constraint
from minigpt.generation.grammar_table import FREE, GrammarTable
from minigpt.serving.input_checks import Tensors, require


class Begun(NamedTuple):
  """The grammar inputs of a chunk, for rows that may have begun earlier."""

  grammar: tf.Tensor  # string [B], the name; '': no grammar
  grammar_state: tf.Tensor  # int32 [B], the row's state; 0: at the start
  num_left: tf.Tensor  # int32 [B], tokens that the answer may still have


class GrammarReader:
  """Looks up the grammars that requests name, in the export's graph."""

  def __init__(self, table: GrammarTable):
    """Stores the table as tensors."""
    self._names = table.names
    self._start = tf.constant([FREE, *table.start])
    self._owner = tf.constant(table.owner)
    self.least = {name: table.least(name) for name in table.names}
    self.tables = constraint.tables(table)

  def read(
    self, grammar: tf.Tensor, options: Tensors
  ) -> tuple[tf.Tensor, Constraint]:
    """Returns the first state of each row, int32 [B], and the constraint.

    Args:
      grammar: string [B], the name; '': no grammar.
      options: the sampling options, each [B].
    """
    which = self._which(grammar)
    _require_free(which, options['min_new_tokens'], 'min_new_tokens')
    state = tf.gather(self._start, which)
    n_new = options['max_new_tokens']
    return state, self._limited(state, n_new, 'max_new_tokens')

  def read_chunk(
    self,
    begun: Begun,
    stop: tf.Tensor,
    options: Tensors,
    n_before: tf.Tensor,
  ) -> tuple[tf.Tensor, Constraint]:
    """Returns the states and the constraint of rows that may have begun.

    Args:
      begun: the grammars and the states of the rows.
      stop: string [B, K].
      options: the sampling options, each [B].
      n_before: int32 [B], tokens sampled in earlier chunks.
    """
    which, n_left = self._which(begun.grammar), begun.num_left
    _require_free(which, options['min_new_tokens'], 'min_new_tokens')
    n_stops = tf.reduce_sum(tf.cast(stop != '', tf.int32), 1)
    _require_free(which, n_stops, 'stop')
    first = tf.gather(self._start, which)
    state = self._resumed(begun.grammar_state, first, which)
    n_left = require(
      (which == 0) | (n_left >= options['max_new_tokens']),
      n_left,
      'num_left',
      'must be max_new_tokens or more',
    )
    limited = self._limited(state, n_left, 'num_left')
    return state, limited._replace(limit=n_before + limited.limit)

  def _limited(self, state, n_left, field):
    """Returns the constraint of rows with `n_left` tokens left, if enough."""
    n_least = tf.gather(self.tables.onward, state)
    rule = tf.strings.join(
      ['must be ', tf.strings.as_string(n_least), ' or more for its grammar']
    )
    n_left = require(n_least <= n_left, n_left, field, rule)
    return Constraint(self.tables, n_left)

  def _which(self, grammar):
    """Returns the number of each row's grammar, int32 [B]; 0: no grammar."""
    names = tf.constant(['', *self._names])
    same = grammar[:, None] == names
    grammar = require(
      tf.reduce_any(same, 1),
      grammar,
      'grammar',
      f'must be one of {", ".join(self._names)}, or empty',
    )
    return tf.argmax(grammar[:, None] == names, 1, tf.int32)

  def _resumed(self, given, first, which):
    n_states = self._owner.shape[0]
    inside = tf.clip_by_value(given, 0, n_states - 1)
    given = require(
      (given == 0)
      | ((given == inside) & (tf.gather(self._owner, inside) == which)),
      given,
      'grammar_state',
      'must be 0, or the next_grammar_state of the same grammar',
    )
    return tf.where(given == 0, first, given)


def _require_free(which: tf.Tensor, n: tf.Tensor, field: str) -> None:
  """Refuses options about the end of a text together with a grammar."""
  rule = 'must be left out with a grammar, which says where a text ends'
  require((which == 0) | (n <= 0), n, field, rule)
