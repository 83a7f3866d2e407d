"""Generation: samplers, prefill, one decoding step, and the loop around it.

A row of the batch is a window of tokens, left-aligned. All but its last token
are in the KV cache; each turn of the loop reads that last token, draws the
next one and appends it. Rows differ in length, sampling and seed, and no row
sees another. A row that fills the context keeps its last half and goes on:
positions are learned, so keys cannot slide and are computed anew.

Shapes: B rows, S window slots, N new tokens, V vocabulary.
"""

import math
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from minigpt.config import GPTConfig
from minigpt.generation import logits_processors
from minigpt.model.hooks import Hook, no_hook
from minigpt.model.kv_cache import Caches, cached_gpt
from minigpt.model.layers import cross_entropy, sizes
from minigpt.model.params import Params
from minigpt.model.transformer import unembed


class Sampling(NamedTuple):
  """How each row draws its tokens."""

  temperature: tf.Tensor  # f32 [B]; 0: the likeliest token
  top_k: tf.Tensor  # int32 [B]; only the k likeliest; 0: all
  top_p: tf.Tensor  # f32 [B]; only the likeliest that reach p; 1: all
  seed: tf.Tensor  # int32 or int64 [B]


def greedy_sampling(n_rows: int | tf.Tensor) -> Sampling:
  """Every row takes the likeliest token each time."""
  zeros = tf.zeros([n_rows], tf.int32)
  return Sampling(tf.zeros([n_rows]), zeros, tf.ones([n_rows]), zeros)


class State(NamedTuple):
  """Where the generation of a batch stands."""

  window: tf.Tensor  # int32 [B, S]
  length: tf.Tensor  # int32 [B], tokens in each window, at least 1
  caches: Caches  # keys and values of all but the last of them
  n_drawn: tf.Tensor  # int32 [B], tokens drawn so far
  done: tf.Tensor  # bool [B]


class Drawn(NamedTuple):
  """New tokens; a row that is done goes on with `stop_token` or zeros."""

  tokens: tf.Tensor  # int32 [B, N]
  log_prob: tf.Tensor  # f32 [B, N], under the model at temperature 1


def keep_top_k(logits: tf.Tensor, k: tf.Tensor) -> tf.Tensor:
  """Hides all but the k likeliest (Fan et al. 2018): [B, V], [B] -> [B, V]."""
  n = logits.shape[-1]
  ranked = tf.sort(logits, direction='DESCENDING')
  last = tf.clip_by_value(tf.where(k > 0, k, n), 1, n) - 1
  threshold = tf.gather(ranked, last, batch_dims=1)[:, None]
  return tf.where(logits >= threshold, logits, -math.inf)


def keep_top_p(logits: tf.Tensor, p: tf.Tensor) -> tf.Tensor:
  """Hides all but the nucleus of mass p (Holtzman et al. 2020), section 3.1.

  [B, V], [B] -> [B, V]; the likeliest token always stays.
  """
  ranked = tf.sort(logits, direction='DESCENDING')
  probs = tf.nn.softmax(ranked)
  before = tf.cumsum(probs, axis=-1, exclusive=True)
  n_kept = tf.reduce_sum(tf.cast(before < p[:, None], tf.int32), -1)
  last = tf.maximum(n_kept, 1) - 1
  threshold = tf.gather(ranked, last, batch_dims=1)[:, None]
  keep = (logits >= threshold) | (p >= 1)[:, None]
  return tf.where(keep, logits, -math.inf)


def gumbel(seed: tf.Tensor, turn: tf.Tensor, n: int) -> tf.Tensor:
  """Standard Gumbel noise that depends on the row's own seed and turn alone.

  int [B], int32 [B] -> f32 [B, n]
  """

  def row(seed_and_turn):
    # Integers, as XLA and the CPU kernel make different floats of them.
    bits = tf.random.stateless_uniform(
      [n], seed_and_turn, None, None, tf.uint32, alg='philox'
    )
    high = tf.cast(tf.bitwise.right_shift(bits, np.uint32(9)), tf.float32)
    return -tf.math.log(-tf.math.log((high + 0.5) / 2**23))

  seeds = tf.stack([seed, tf.cast(turn, seed.dtype)], -1)
  return tf.map_fn(row, seeds, fn_output_signature=tf.float32)


def draw(
  logits: tf.Tensor, sampling: Sampling, turn: tf.Tensor
) -> tf.Tensor:  # f32 [B, V] -> int32 [B]
  """Draws each row's next token; argmax of logits + Gumbel noise is a draw
  from their softmax (Gumbel 1954).

  Args:
    turn: int32 [B], how many tokens the row has drawn before.
  """
  likeliest = tf.argmax(logits, -1, tf.int32)

  def sample():
    t = sampling.temperature[:, None]
    scaled = logits / tf.where(t > 0, t, 1.0)
    k, p = sampling.top_k, sampling.top_p
    scaled = _where_any(k > 0, keep_top_k, scaled, k)
    scaled = _where_any(p < 1, keep_top_p, scaled, p)
    noise = gumbel(sampling.seed, turn, logits.shape[-1])
    drawn = tf.argmax(scaled + noise, -1, tf.int32)
    return tf.where(sampling.temperature > 0, drawn, likeliest)

  any_sampled = tf.reduce_any(sampling.temperature > 0)
  return tf.cond(any_sampled, sample, lambda: likeliest)


def _where_any(asked, keep, logits, limit):
  """`keep(logits, limit)`, whose sort is spared where no row asks for it."""
  return tf.cond(
    tf.reduce_any(asked), lambda: keep(logits, limit), lambda: logits
  )


def prefill(
  tokens: tf.Tensor, p: Params, config: GPTConfig, n_slots: int
) -> Caches:  # int32 [B, T] -> S slots
  """Keys and values of every token; those past a row's length are never
  looked at before a real token has replaced them."""
  n_rows, n_tokens = sizes(tokens)
  start = tf.zeros([n_rows], tf.int32)
  caches = cached_gpt(tokens, p, config, None, start)[1]
  room = [[0, 0], [0, 0], [0, n_slots - n_tokens], [0, 0]]
  return tf.nest.map_structure(lambda x: tf.pad(x, room), caches)


def start(
  prompts: tf.Tensor,
  length: tf.Tensor,
  p: Params,
  config: GPTConfig,
  n_slots: int,
) -> State:
  """State of prompts given as int32 [B, T] and their lengths, int32 [B].

  Args:
    n_slots: S; the context length, or room for prompt and new tokens.
  """
  room = n_slots - sizes(prompts)[1]
  return State(
    window=tf.pad(prompts, [[0, 0], [0, room]]),
    length=length,
    caches=prefill(prompts, p, config, n_slots),
    n_drawn=tf.zeros_like(length),
    done=tf.zeros_like(length, tf.bool),
  )


def decode_step(
  state: State, p: Params, config: GPTConfig, hook: Hook = no_hook
) -> tuple[tf.Tensor, Caches]:
  """Logits of each row's next token, f32 [B, V], and the longer caches."""
  last = tf.gather(state.window, state.length - 1, batch_dims=1)[:, None]
  hidden, caches = cached_gpt(
    last, p, config, state.caches, state.length - 1, hook
  )
  return tf.cast(unembed(hidden[:, 0], p, config), tf.float32), caches


def slide(state: State, full: tf.Tensor, p: Params, config: GPTConfig) -> State:
  """Halves the windows that are `full`, and computes their caches anew."""
  n_slots, n_kept = config.context_length, config.context_length // 2
  tail = tf.roll(state.window, n_kept - n_slots, axis=1)
  window = tf.where(full[:, None], tail, state.window)
  fresh = prefill(window[:, : max(n_kept, 1)], p, config, n_slots)
  return state._replace(
    window=window,
    length=tf.where(full, n_kept, state.length),
    caches=tf.nest.map_structure(
      lambda new, old: tf.where(full[:, None, None, None], new, old),
      fresh,
      state.caches,
    ),
  )


def generate(
  state: State,
  n_new: tf.Tensor,
  n_out: int,
  sampling: Sampling,
  p: Params,
  config: GPTConfig,
  stop_token: int | None = None,
  rules: logits_processors.Rules | None = None,
) -> tuple[State, Drawn]:
  """Draws up to `n_new` tokens a row, until every row is done.

  Args:
    n_new: int32 [] or [B], at most `n_out`.
    n_out: size N of the output.
    stop_token: a row that draws it is done.
    rules: what changes the logits before a token is drawn; None: nothing.
  """
  n_rows = tf.shape(state.window)[0]
  empty = tf.fill([n_rows, n_out], stop_token or 0)
  drawn = Drawn(empty, tf.zeros([n_rows, n_out]))

  def grows(i, state):
    return ~state.done & (i < n_new)

  def turn(i, state, drawn):
    now = grows(i, state)
    state, token, log_prob = grow(
      state, now, sampling, p, config, stop_token, rules
    )
    here = now[:, None] & (tf.range(n_out) == i)
    drawn = Drawn(
      tf.where(here, token[:, None], drawn.tokens),
      tf.where(here, log_prob[:, None], drawn.log_prob),
    )
    return i + 1, state, drawn

  _, state, drawn = tf.while_loop(
    lambda i, state, _: tf.reduce_any(grows(i, state)),
    turn,
    (0, state, drawn),
  )
  return state, drawn


def grow(
  state: State,
  grows: tf.Tensor,
  sampling: Sampling,
  p: Params,
  config: GPTConfig,
  stop_token: int | None = None,
  rules: logits_processors.Rules | None = None,
) -> tuple[State, tf.Tensor, tf.Tensor]:
  """One token, int32 [B], and its log probability for each row that `grows`."""
  logits, caches = decode_step(state, p, config)
  ruled = logits
  if rules:
    ruled = logits_processors.apply(
      logits, rules, state.window, state.length, state.n_drawn, stop_token
    )
  token = draw(ruled, sampling, state.n_drawn)
  log_prob = -cross_entropy(logits, token)
  state = state._replace(caches=caches)
  if state.window.shape[1] in (None, config.context_length):
    full = grows & (state.length == config.context_length)
    state = tf.cond(
      tf.reduce_any(full), lambda: slide(state, full, p, config), lambda: state
    )
  return append(state, grows, token, stop_token), token, log_prob


def append(
  state: State, grows: tf.Tensor, token: tf.Tensor, stop_token: int | None
) -> State:
  """Puts a drawn token at the end of each row that `grows`."""
  here = tf.range(sizes(state.window)[1]) == state.length[:, None]
  n = tf.cast(grows, tf.int32)
  stops = grows & (token == stop_token) if stop_token is not None else False
  return state._replace(
    window=tf.where(here & grows[:, None], token[:, None], state.window),
    length=state.length + n,
    n_drawn=state.n_drawn + n,
    done=state.done | stops,
  )


def next_logits(
  tokens: tf.Tensor, p: Params, config: GPTConfig
) -> tf.Tensor:  # int [B, T] -> [B, V]
  """Scores the token after each row."""
  n_rows, n_tokens = sizes(tokens)
  start, last = (tf.fill([n_rows], i) for i in (0, n_tokens - 1))
  hidden, _ = cached_gpt(tokens, p, config, None, start, query_index=last)
  return unembed(hidden[:, 0], p, config)


def greedy(
  tokens: tf.Tensor, n_new: tf.Tensor, n_out: int, p: Params, config: GPTConfig
) -> tf.Tensor:  # int [B, T], int [] -> int32 [B, n_out]
  """The `n_new` likeliest tokens after rows that are all of one length."""
  n_rows, n_tokens = sizes(tokens)
  sampling = greedy_sampling(n_rows)
  length = tf.fill([n_rows], n_tokens)
  state = start(tokens, length, p, config, n_tokens + n_out)
  return generate(state, n_new, n_out, sampling, p, config)[1].tokens
