"""Greedy decoding with drafts from the text itself (prompt lookup).

Source: Saxena 2023, https://github.com/apoorvumang/prompt-lookup-decoding

A row's last tokens have often occurred in its window before. Each step takes
the tokens that followed there as a draft and verifies it in one pass through
the model. The step keeps the part of the draft that the model would have
generated itself, and the token that the model generates after it.

The result is the same as without drafts. The exception is two tokens whose
logits are equal but for rounding: a matmul over several tokens may round
differently from one over a single token, and so favour the other token.

Shapes: B rows, S window slots, N new tokens, K drafted tokens.
"""

from typing import NamedTuple

import tensorflow as tf

from minigpt.config import GPTConfig
from minigpt.generation import decode
from minigpt.generation.decode import Sampled, State
from minigpt.generation.sampling import greedy_sampling
from minigpt.model.kv_cache import cached_gpt
from minigpt.model.layers import cross_entropy, sizes
from minigpt.model.params import Params
from minigpt.model.transformer import unembed

_LONGEST = 8  # Tokens that are compared to find the best earlier occurrence.
_SHORTEST = 2  # A match of one token says too little about what follows.


class Draft(NamedTuple):
  """Guesses of the next tokens of each row."""

  tokens: tf.Tensor  # int32 [B, K]
  found: tf.Tensor  # bool [B]; False: no match, so the tokens mean nothing


class Tally(NamedTuple):
  """Statistics of the drafts."""

  n_steps: tf.Tensor  # int32 [], passes through the model
  n_drafted: tf.Tensor  # int32 [B], tokens that were verified
  n_accepted: tf.Tensor  # int32 [B], how many of these were kept


def look_up(window: tf.Tensor, length: tf.Tensor, n_drafted: int) -> Draft:
  """Finds the tokens that followed an earlier occurrence of each window's end.

  Of several occurrences it takes the one where most tokens agree, and of those
  the last. A draft that reaches the end of the window repeats from its start.

  Args:
    window: int32 [B, S].
    length: int32 [B], how many tokens of each window count.
    n_drafted: K.
  """
  n_slots = sizes(window)[1]
  slot = tf.range(n_slots)
  agreeing = tf.cast(slot < length[:, None] - 1, tf.int32)
  n_agreeing = tf.zeros_like(window)
  for back in range(_LONGEST):
    place = tf.maximum(length - 1 - back, 0)
    last = tf.gather(window, place, batch_dims=1)[:, None]
    # Slot s of the rolled window holds token s - back.
    same = (tf.roll(window, back, axis=1) == last) & (slot >= back)
    # The product stays 0 after the first token that differs.
    agreeing *= tf.cast(same, tf.int32)
    n_agreeing += agreeing
  # Adding the slot breaks ties in favour of the last occurrence.
  place = tf.argmax(n_agreeing * n_slots + slot, -1, tf.int32)
  follows = (place + 1)[:, None]
  offset = tf.range(n_drafted) % tf.maximum(length[:, None] - follows, 1)
  index = tf.minimum(follows + offset, n_slots - 1)
  return Draft(
    tf.gather(window, index, batch_dims=1),
    tf.reduce_max(n_agreeing, -1) >= _SHORTEST,
  )


def generate(
  state: State,
  n_new: tf.Tensor,
  n_out: int,
  n_drafted: int,
  p: Params,
  config: GPTConfig,
  stop_token: int | None = None,
) -> tuple[State, Sampled, Tally]:
  """Does the work of `decode.generate` at temperature 0, in fewer steps.

  Args:
    n_new: int32 [] or [B], at most `n_out`.
    n_out: size N of the output.
    n_drafted: K, the length of a draft.
    stop_token: a row that samples it is done.
  """

  def remaining(n, state):
    return tf.where(state.done, 0, n_new - n)

  def step(n, state, sampled, tally):
    state, new, n_kept, drafted = _step(
      state, remaining(n, state), n_drafted, p, config, stop_token
    )
    sampled = tf.nest.map_structure(
      lambda to, x: _put(to, n, x, n_kept), sampled, new
    )
    return n + n_kept, state, sampled, _count(tally, drafted, n_kept)

  zeros = tf.zeros_like(state.length)
  empty = decode.no_tokens(tf.shape(state.window)[0], n_out, stop_token)
  _, state, sampled, tally = tf.while_loop(
    lambda n, state, *_: tf.reduce_any(remaining(n, state) > 0),
    step,
    (zeros, state, empty, Tally(0, zeros, zeros)),
  )
  return state, sampled, tally


def _step(state, most, n_drafted, p, config, stop_token):
  """Adds up to K + 1 tokens to each row, but at most `most` [B].

  Returns:
    The state; the tokens, [B, K + 1]; how many of them count, int32 [B]; and
    how many were drafted, int32 [B].
  """
  draft = look_up(state.window, state.length, n_drafted)
  has_draft = draft.found & (most > 0)
  # All rows share a pass: if one row has a draft, all rows verify theirs.
  speculates = tf.reduce_any(has_draft) & _has_room(state, n_drafted)
  state, new, n_kept = tf.cond(
    speculates,
    lambda: _verify(state, draft.tokens, most, p, config, stop_token),
    lambda: _plain(state, n_drafted, most > 0, p, config, stop_token),
  )
  return state, new, n_kept, tf.where(has_draft & speculates, n_drafted, 0)


def _count(tally, drafted, n_kept):
  # The last token kept is the model's own, not one of the draft.
  accepted = tf.where(drafted > 0, n_kept - 1, 0)
  return Tally(
    tally.n_steps + 1,
    tally.n_drafted + drafted,
    tally.n_accepted + accepted,
  )


def _has_room(state, n_drafted):
  """Returns whether every window has room for a draft and a token after it."""
  return tf.reduce_all(state.length + n_drafted < sizes(state.window)[1])


def _verify(state, draft, most, p, config, stop_token):
  """Runs the model over the draft; keeps the tokens it would itself choose."""
  last = tf.gather(state.window, state.length - 1, batch_dims=1)[:, None]
  hidden, caches = cached_gpt(
    tf.concat([last, draft], -1), p, config, state.caches, state.length - 1
  )
  logits = tf.cast(unembed(hidden, p, config), tf.float32)
  most_likely = tf.argmax(logits, -1, tf.int32)  # [B, K + 1]
  n_kept = tf.minimum(1 + _n_leading(most_likely[:, :-1] == draft), most)
  stops = tf.zeros_like(state.done)
  if stop_token is not None:
    n_before = _n_leading(most_likely != stop_token)
    stops = n_before < n_kept
    n_kept = tf.minimum(n_kept, n_before + 1)
  state = state._replace(
    window=_put(state.window, state.length, most_likely, n_kept),
    length=state.length + n_kept,
    caches=caches,
    n_sampled=state.n_sampled + n_kept,
    done=state.done | stops,
  )
  return (
    state,
    Sampled(most_likely, -cross_entropy(logits, most_likely)),
    n_kept,
  )


def _n_leading(holds: tf.Tensor) -> tf.Tensor:  # bool [B, K] -> int32 [B]
  """Counts the entries of each row before the first that is False."""
  return tf.reduce_sum(tf.math.cumprod(tf.cast(holds, tf.int32), -1), -1)


def _plain(state, n_drafted, growing, p, config, stop_token):
  """Adds one token to each row in `growing`; the results are as `_verify`'s."""
  greedy = greedy_sampling(tf.shape(state.length)[0])
  state, new = decode.decode_one(state, growing, greedy, p, config, stop_token)
  room = [[0, 0], [0, n_drafted]]
  padded = tf.nest.map_structure(lambda x: tf.pad(x[:, None], room), new)
  return state, padded, tf.cast(growing, tf.int32)


def _put(
  row: tf.Tensor, at: tf.Tensor, values: tf.Tensor, n: tf.Tensor
) -> tf.Tensor:  # [B, N], int32 [B], [B, M], int32 [B] -> [B, N]
  """Writes the first `n[b]` of `values[b]` from place `at[b]` on."""
  offset = tf.range(sizes(row)[1]) - at[:, None]
  index = tf.clip_by_value(offset, 0, sizes(values)[1] - 1)
  here = (offset >= 0) & (offset < n[:, None])
  return tf.where(here, tf.gather(values, index, batch_dims=1), row)
