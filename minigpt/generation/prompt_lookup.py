"""Greedy decoding that guesses ahead (prompt lookup, Saxena 2023).

https://github.com/apoorvumang/prompt-lookup-decoding

What a row wrote last has often stood in its window before. Each turn takes
what followed there as a draft, reads the draft in one pass, and keeps as much
of it as the model would have written itself, and one token more.

The tokens are those of plain greedy decoding: each is the likeliest after all
before it. Only where two tokens are likeliest to within the rounding of a
float may the other one be taken, as a product over several tokens need not
round like a product over one.

Shapes: B rows, S window slots, N new tokens, K drafted tokens.
"""

from typing import NamedTuple

import tensorflow as tf

from minigpt.config import GPTConfig
from minigpt.generation import decode
from minigpt.generation.decode import Drawn, State
from minigpt.model.kv_cache import cached_gpt
from minigpt.model.layers import cross_entropy, sizes
from minigpt.model.params import Params
from minigpt.model.transformer import unembed

_LONGEST = 8  # Tokens of an occurrence that count when several are compared.
_SHORTEST = 2  # One token alone says too little of what follows.


class Draft(NamedTuple):
  """What each row might go on with."""

  tokens: tf.Tensor  # int32 [B, K]
  found: tf.Tensor  # bool [B]; False: nothing speaks for them


class Tally(NamedTuple):
  """What speculation came to."""

  n_turns: tf.Tensor  # int32 [], passes through the model
  n_drafted: tf.Tensor  # int32 [B], tokens read as a draft
  n_accepted: tf.Tensor  # int32 [B], of them kept


def look_up(window: tf.Tensor, length: tf.Tensor, n_drafted: int) -> Draft:
  """What followed where the end of each window occurred before.

  Of several places the one counts where most tokens agree, and of those the
  last. A draft that reaches the end of the window goes on from its beginning.

  Args:
    window: int32 [B, S], `length[b]` tokens in row b.
    n_drafted: K.
  """
  n_slots = sizes(window)[1]
  slot = tf.range(n_slots)
  agreeing = tf.cast(slot < length[:, None] - 1, tf.int32)
  n_agreeing = tf.zeros_like(window)
  for back in range(_LONGEST):
    last = tf.gather(window, tf.maximum(length - 1 - back, 0), batch_dims=1)[
      :, None
    ]
    # Slot s of the rolled window has what is `back` before it.
    same = (tf.roll(window, back, axis=1) == last) & (slot >= back)
    agreeing *= tf.cast(same, tf.int32)
    n_agreeing += agreeing
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
) -> tuple[State, Drawn, Tally]:
  """`decoding.generate` of the likeliest tokens, in fewer turns.

  Args:
    n_new: int32 [] or [B], at most `n_out`.
    n_out: size N of the output.
    n_drafted: K, the longest draft.
    stop_token: a row that draws it is done.
  """
  n_rows = tf.shape(state.window)[0]
  nothing = tf.zeros_like(state.length)
  drawn = Drawn(
    tf.fill([n_rows, n_out], stop_token or 0), tf.zeros([n_rows, n_out])
  )

  def left(n, state):
    return tf.where(state.done, 0, n_new - n)

  def turn(n, state, drawn, tally):
    most = left(n, state)
    draft = look_up(state.window, state.length, n_drafted)
    reads = draft.found & (most > 0)
    speculates = tf.reduce_any(reads) & _has_room(state, n_drafted)
    state, new, n_kept = tf.cond(
      speculates,
      lambda: _verify(state, draft.tokens, most, p, config, stop_token),
      lambda: _plain(state, n_drafted, most > 0, p, config, stop_token),
    )
    drawn = tf.nest.map_structure(
      lambda to, of: _put(to, n, of, n_kept), drawn, new
    )
    drafted = tf.where(reads & speculates, n_drafted, 0)
    tally = Tally(
      tally.n_turns + 1,
      tally.n_drafted + drafted,
      tally.n_accepted + tf.where(drafted > 0, n_kept - 1, 0),
    )
    return n + n_kept, state, drawn, tally

  start = (nothing, state, drawn, Tally(0, nothing, nothing))
  _, state, drawn, tally = tf.while_loop(
    lambda n, state, *_: tf.reduce_any(left(n, state) > 0), turn, start
  )
  return state, drawn, tally


def _has_room(state, n_drafted):
  """A draft and the token after it must not make any window slide."""
  return tf.reduce_all(state.length + n_drafted < sizes(state.window)[1])


def _verify(state, draft, most, p, config, stop_token):
  """Reads the last token and the draft; keeps what the model agrees with."""
  last = tf.gather(state.window, state.length - 1, batch_dims=1)[:, None]
  hidden, caches = cached_gpt(
    tf.concat([last, draft], -1), p, config, state.caches, state.length - 1
  )
  logits = tf.cast(unembed(hidden, p, config), tf.float32)
  likeliest = tf.argmax(logits, -1, tf.int32)  # [B, K + 1]
  n_kept = tf.minimum(1 + _n_leading(likeliest[:, :-1] == draft), most)
  stops = tf.zeros_like(state.done)
  if stop_token is not None:
    n_before = _n_leading(likeliest != stop_token)
    stops = n_before < n_kept
    n_kept = tf.minimum(n_kept, n_before + 1)
  state = State(
    window=_put(state.window, state.length, likeliest, n_kept),
    length=state.length + n_kept,
    caches=caches,
    n_drawn=state.n_drawn + n_kept,
    done=state.done | stops,
  )
  return state, Drawn(likeliest, -cross_entropy(logits, likeliest)), n_kept


def _n_leading(holds: tf.Tensor) -> tf.Tensor:  # bool [B, K] -> int32 [B]
  """How many entries of each row come before the first that is False."""
  return tf.reduce_sum(tf.math.cumprod(tf.cast(holds, tf.int32), -1), -1)


def _plain(state, n_drafted, grows, p, config, stop_token):
  """One token for each row that `grows`, in the shapes of `_verify`."""
  greedy = decode.greedy_sampling(tf.shape(state.length)[0])
  state, *new = decode.grow(state, grows, greedy, p, config, stop_token)
  room = [[0, 0], [0, n_drafted]]
  new = Drawn(*[tf.pad(part[:, None], room) for part in new])
  return state, new, tf.cast(grows, tf.int32)


def _put(
  row: tf.Tensor, at: tf.Tensor, values: tf.Tensor, n: tf.Tensor
) -> tf.Tensor:  # [B, N], int32 [B], [B, M], int32 [B] -> [B, N]
  """Writes the first `n[b]` of `values[b]` from place `at[b]` on."""
  offset = tf.range(sizes(row)[1]) - at[:, None]
  index = tf.clip_by_value(offset, 0, sizes(values)[1] - 1)
  here = (offset >= 0) & (offset < n[:, None])
  return tf.where(here, tf.gather(values, index, batch_dims=1), row)
