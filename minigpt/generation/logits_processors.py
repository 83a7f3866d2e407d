"""Rules that change the logits before a token is sampled.

Each rule is a pure function of the logits and the tokens so far. Each row has
its own values, so that rows with different rules can share a batch.

Shapes: B rows, S window slots, V vocabulary, N strings, L bytes of the longest.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from minigpt.generation import automaton
from minigpt.generation.sampling_fields import names_of_stage
from minigpt.model.layers import sizes


class Banned(NamedTuple):
  """An automaton for each banned string, over whole tokens.

  State n says that the text ends with the first n bytes of the string.
  """

  next_state: tf.Tensor  # int32 [N, L + 1, V]
  completes: tf.Tensor  # bool [N, L + 1, V], whether the token ends the string


class Rules(NamedTuple):
  """The rules of each row; see `apply`."""

  repetition_penalty: tf.Tensor  # f32 [B]; 1: none
  min_new_tokens: tf.Tensor  # int32 [B]; hides the stop token until then
  bias: tf.Tensor | tuple[()] = ()  # f32 [B, V], added to the logits
  banned: Banned | tuple[()] = ()  # strings that no row may generate


def select_rules(options: Mapping[str, Any]) -> Rules:
  """Picks the options that change logits out of all sampling options [B]."""
  names = names_of_stage('logits')
  return Rules(**{name: tf.convert_to_tensor(options[name]) for name in names})


def apply(
  logits: tf.Tensor,
  rules: Rules,
  window: tf.Tensor,
  length: tf.Tensor,
  n_sampled: tf.Tensor,
  stop_token: int | None,
) -> tf.Tensor:
  """Applies all rules, in the order of `transformers`.

  A rule that no row uses costs nothing.

  Args:
    logits: f32 [B, V].
    window: int32 [B, S], the tokens so far.
    length: int32 [B], how many there are.
    n_sampled: int32 [B], how many of them are new.
    stop_token: the token that ends a text, if there is one.
  """
  if not isinstance(rules.bias, tuple):
    logits += rules.bias
  logits = tf.cond(
    tf.reduce_any(rules.repetition_penalty != 1),
    lambda: penalize_repetition(
      logits, seen_tokens(window, length, logits), rules.repetition_penalty
    ),
    lambda: logits,
  )
  if rules.banned:
    forbidden = completing(rules.banned, window, length)
    logits = tf.where(forbidden, -math.inf, logits)
  if stop_token is None:
    return logits
  too_early = n_sampled < rules.min_new_tokens
  is_stop = tf.range(sizes(logits)[1]) == stop_token
  return tf.cond(
    tf.reduce_any(too_early),
    lambda: tf.where(is_stop & too_early[:, None], -math.inf, logits),
    lambda: logits,
  )


def seen_tokens(
  window: tf.Tensor, length: tf.Tensor, logits: tf.Tensor
) -> tf.Tensor:
  """Marks the tokens in each window: [B, S], [B], [B, V] -> bool [B, V]."""
  n_rows, n_slots = sizes(window)
  is_used = tf.range(n_slots) < length[:, None]
  row = tf.broadcast_to(tf.range(n_rows)[:, None], [n_rows, n_slots])
  counts = tf.scatter_nd(
    tf.stack([row, window], -1), tf.cast(is_used, tf.int32), tf.shape(logits)
  )
  return counts > 0


def penalize_repetition(
  logits: tf.Tensor, seen: tf.Tensor, penalty: tf.Tensor
) -> tf.Tensor:  # [B, V], bool [B, V], [B] -> [B, V]
  """Makes seen tokens less likely (Keskar et al. 2019, section 4.1).

  A negative logit is multiplied instead of divided, as in `transformers`.
  """
  penalty = penalty[:, None]
  penalized = tf.where(logits < 0, logits * penalty, logits / penalty)
  return tf.where(seen, penalized, logits)


def completing(
  banned: Banned, window: tf.Tensor, length: tf.Tensor
) -> tf.Tensor:
  """Marks the tokens that would complete a banned string: -> bool [B, V].

  It feeds the last L - 1 tokens to the automata: no more can matter, as each
  token has a byte and only the last L - 1 bytes can begin a string.
  """
  n_strings, n_states, _ = banned.next_state.shape
  string = tf.broadcast_to(tf.range(n_strings), [sizes(window)[0], n_strings])
  state = tf.zeros_like(string)
  for back in range(n_states - 2, 0, -1):
    place = length - back
    token = tf.gather(window, tf.maximum(place, 0), batch_dims=1)
    token = tf.broadcast_to(token[:, None], tf.shape(state))
    after = tf.gather_nd(
      banned.next_state, tf.stack([string, state, token], -1)
    )
    # A short row has no token this far back.
    state = tf.where(place[:, None] >= 0, after, state)
  completes = tf.gather_nd(banned.completes, tf.stack([string, state], -1))
  return tf.reduce_any(completes, 1)


def ban(strings: Sequence[str], tokens: Sequence[bytes]) -> Banned:
  """Returns the tables of banned strings.

  Args:
    strings: the strings, none of them empty.
    tokens: the bytes of each token of the vocabulary.
  """
  tables = [
    automaton.token_table(automaton.build([string.encode()]), tokens)
    for string in strings
  ]
  n_states = max(len(table.next_state) for table in tables)

  def stack(parts: Sequence[np.ndarray]) -> tf.Tensor:
    # Shorter strings have fewer states; the padding is never reached.
    return tf.constant(
      np.stack([np.pad(p, [[0, n_states - len(p)], [0, 0]]) for p in parts])
    )

  return Banned(
    stack([table.next_state for table in tables]),
    stack([table.n_after > 0 for table in tables]),
  )
