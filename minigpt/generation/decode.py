"""Generation: prefill, one decoding step, and the loop over steps.

A row of the batch is a window of tokens, left-aligned. The KV cache holds all
tokens but the last; a step adds the last one to the cache, samples the next
token and appends it to the window. Rows have their own length, sampling options
and seed, and do not depend on each other. A row that fills the context keeps
the last half of its window and goes on. Its keys and values are then recomputed
at their new positions, as GPT-2 learns an embedding for each position.

Shapes: B rows, S window slots, N new tokens, V vocabulary.
"""

from typing import Any, NamedTuple

import tensorflow as tf

from minigpt.config import GPTConfig
from minigpt.generation import constraint, logits_processors, row_stops
from minigpt.generation.alternatives import (
  WIDTH,
  Alternatives,
  most_likely_log_probs,
)
from minigpt.generation.constraint import Constraint
from minigpt.generation.grammar_table import FREE
from minigpt.generation.row_stops import RowStops
from minigpt.generation.sampling import Sampling, greedy_sampling, sample
from minigpt.model.hooks import Hook, no_hook
from minigpt.model.kv_cache import Caches, cached_gpt
from minigpt.model.layers import cross_entropy, sizes
from minigpt.model.params import Params
from minigpt.model.transformer import unembed


class State(NamedTuple):
  """The state of generation, for a batch."""

  window: tf.Tensor  # int32 [B, S]
  length: tf.Tensor  # int32 [B], tokens in each window, at least 1
  caches: Caches  # keys and values of all tokens but each window's last
  n_sampled: tf.Tensor  # int32 [B], new tokens so far
  done: tf.Tensor  # bool [B]
  # State of the search for stop strings. With one set of strings for all rows,
  # int32 [B], a state of the automaton; below 0, a string has ended the row,
  # and the value is that of `automaton.stop_table`. With strings for each row,
  # the last bytes of the text, int32 [B, R]; see `row_stops`.
  stop_state: tf.Tensor
  # int32 [B], the state of each row's grammar; below 0, the grammar has ended
  # the row. Empty where no row can have a grammar.
  grammar_state: Any = ()


class Sampled(NamedTuple):
  """New tokens. A row that has ended is filled with the stop token or zeros.

  The tokens of a single step have no dimension N.
  """

  tokens: tf.Tensor  # int32 [B, N]
  log_prob: tf.Tensor  # f32 [B, N], under the model at temperature 1
  # The most likely tokens at each place, [B, N, 20]; empty where requests
  # cannot ask for them.
  alternatives: Alternatives | tuple[()] = ()


def no_tokens(
  n_rows: tf.Tensor,
  n_out: int,
  stop_token: int | None,
  n_alternatives: tf.Tensor | None = None,
) -> Sampled:
  """Returns empty results with room for `n_out` tokens in each row."""
  empty = tf.fill([n_rows, n_out], stop_token or 0)
  alternatives: Any = ()
  if n_alternatives is not None:
    shape = [n_rows, n_out, WIDTH]
    alternatives = Alternatives(tf.fill(shape, -1), tf.zeros(shape))
  return Sampled(empty, tf.zeros([n_rows, n_out]), alternatives)


def prefill(
  tokens: tf.Tensor, p: Params, config: GPTConfig, n_slots: int
) -> Caches:  # int32 [B, T] -> S slots
  """Returns caches of S slots with the keys and values of all tokens.

  Slots past a row's length hold padding, which the mask hides until a token
  overwrites it.
  """
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
  """Returns the state after the prompts, before the first new token.

  Args:
    prompts: int32 [B, T], padded on the right.
    length: int32 [B], how many tokens of each prompt count, at least 1.
    p: the weights.
    config: of the model.
    n_slots: S; the context length, or else enough for prompt and new tokens.
  """
  room = n_slots - sizes(prompts)[1]
  return State(
    window=tf.pad(prompts, [[0, 0], [0, room]]),
    length=length,
    caches=prefill(prompts, p, config, n_slots),
    n_sampled=tf.zeros_like(length),
    done=tf.zeros_like(length, tf.bool),
    stop_state=tf.zeros_like(length),
  )


def decode_step(
  state: State, p: Params, config: GPTConfig, hook: Hook = no_hook
) -> tuple[tf.Tensor, Caches]:
  """Returns the logits of each row's next token, f32 [B, V], and the caches."""
  last = tf.gather(state.window, state.length - 1, batch_dims=1)[:, None]
  hidden, caches = cached_gpt(
    last, p, config, state.caches, state.length - 1, hook
  )
  return tf.cast(unembed(hidden[:, 0], p, config), tf.float32), caches


def slide(state: State, full: tf.Tensor, p: Params, config: GPTConfig) -> State:
  """Keeps only the last half of the `full` windows, with new caches."""
  n_slots, n_kept = config.context_length, config.context_length // 2
  tail = tf.roll(state.window, n_kept - n_slots, axis=1)
  window = tf.where(full[:, None], tail, state.window)
  # A context of 1 keeps no token, but the model needs one.
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
  stops: tf.Tensor | RowStops | None = None,
  n_alternatives: tf.Tensor | None = None,
  grammars: Constraint | None = None,
) -> tuple[State, Sampled]:
  """Samples up to `n_new` tokens a row, until every row is done.

  Args:
    n_new: int32 [] or [B], at most `n_out`.
    n_out: size N of the output.
    stop_token: a row that samples it is done; None: there is none.
    rules: change the logits before a token is sampled; None: none do.
    stops: strings of all rows, int32 [states, V] of `automaton.stop_table`,
      or of each row; rows with a grammar ignore them. None: there are none.
    n_alternatives: int32 [B], how many alternatives of each token to return.
    grammars: the grammars that `state.grammar_state` refers to; None: none.
  """
  how = sampling, p, config, stop_token, rules, stops, n_alternatives, grammars

  def grows(i, state):
    return ~state.done & (i < n_new)

  def step(i, state, sampled):
    growing = grows(i, state)
    state, new = decode_one(state, growing, *how)
    return i + 1, state, _write(sampled, new, i, growing)

  n_rows = tf.shape(state.window)[0]
  empty = no_tokens(n_rows, n_out, stop_token, n_alternatives)
  return tf.while_loop(
    lambda i, state, _: tf.reduce_any(grows(i, state)), step, (0, state, empty)
  )[1:]


def _write(sampled, new, i, growing):
  """Writes the new tokens of the rows in `growing` to place `i`."""
  here = growing[:, None] & (tf.range(sampled.tokens.shape[1]) == i)

  def put(into, x):
    where = here if x.shape.rank == 1 else here[..., None]
    return tf.where(where, x[:, None], into)

  return tf.nest.map_structure(put, sampled, new)


def decode_one(
  state: State,
  growing: tf.Tensor,
  sampling: Sampling,
  p: Params,
  config: GPTConfig,
  stop_token: int | None = None,
  rules: logits_processors.Rules | None = None,
  stops: tf.Tensor | RowStops | None = None,
  n_alternatives: tf.Tensor | None = None,
  grammars: Constraint | None = None,
) -> tuple[State, Sampled]:
  """Samples one token, and appends it to the rows that are `growing`.

  Returns:
    The new state, and the sampled tokens.
  """
  logits, caches = decode_step(state, p, config)
  processed = _process(logits, state, stop_token, rules, grammars)
  token = sample(processed, sampling, state.n_sampled)
  alternatives: Any = ()
  if n_alternatives is not None:
    alternatives = most_likely_log_probs(logits, n_alternatives)
  new = Sampled(token, -cross_entropy(logits, token), alternatives)
  state = state._replace(caches=caches)
  # Fewer slots than the context mean that `start` made room for all tokens.
  if state.window.shape[1] in (None, config.context_length):
    full = growing & (state.length == config.context_length)
    state = tf.cond(
      tf.reduce_any(full), lambda: slide(state, full, p, config), lambda: state
    )
  state = append(state, growing, token, stop_token)
  return _end(state, growing, token, stops, grammars), new


def _process(logits, state, stop_token, rules, grammars):
  """Applies the rules and grammars of the rows to the logits."""
  if rules:
    logits = logits_processors.apply(
      logits, rules, state.window, state.length, state.n_sampled, stop_token
    )
  if not grammars:
    return logits
  return constraint.mask(logits, grammars, state.grammar_state, state.n_sampled)


def _end(state, growing, token, stops, grammars):
  """Ends the rows in `growing` whose token completes the text."""
  if not grammars:
    return find_stop(state, growing, token, stops)
  is_free = state.grammar_state == FREE
  state = find_stop(state, growing & is_free, token, stops)
  return follow_grammar(state, growing, token, grammars)


def append(
  state: State, growing: tf.Tensor, token: tf.Tensor, stop_token: int | None
) -> State:
  """Returns the state with a token appended to each row in `growing`."""
  here = tf.range(sizes(state.window)[1]) == state.length[:, None]
  n = tf.cast(growing, tf.int32)
  stops = growing & (token == stop_token) if stop_token is not None else False
  return state._replace(
    window=tf.where(here & growing[:, None], token[:, None], state.window),
    length=state.length + n,
    n_sampled=state.n_sampled + n,
    done=state.done | stops,
  )


def find_stop(
  state: State,
  growing: tf.Tensor,
  token: tf.Tensor,
  stops: tf.Tensor | RowStops | None,
) -> State:
  """Ends the rows in `growing` whose token completes a stop string."""
  if stops is None:
    return state
  if isinstance(stops, RowStops):
    recent, ends = row_stops.advance(stops, state.stop_state, token)
    recent = tf.where(growing[:, None], recent, state.stop_state)
    done = state.done | (growing & ends)
    return state._replace(stop_state=recent, done=done)
  # The state of a row that has ended is negative, and no index; `where` below
  # discards the result.
  place = tf.stack([tf.maximum(state.stop_state, 0), token], -1)
  after = tf.where(growing, tf.gather_nd(stops, place), state.stop_state)
  return state._replace(stop_state=after, done=state.done | (after < 0))


def follow_grammar(
  state: State, growing: tf.Tensor, token: tf.Tensor, grammars: Constraint
) -> State:
  """Ends the rows in `growing` whose grammar the token completes.

  The token is counted already.
  """
  n_left = grammars.limit - state.n_sampled
  before = state.grammar_state
  after = constraint.follow(grammars.tables, before, token, n_left)
  after = tf.where(growing, after, before)
  return state._replace(grammar_state=after, done=state.done | (after < 0))


def next_logits(
  tokens: tf.Tensor, p: Params, config: GPTConfig
) -> tf.Tensor:  # int [B, T] -> [B, V]
  """Returns the logits of the token after each row."""
  n_rows, n_tokens = sizes(tokens)
  start, last = (tf.fill([n_rows], i) for i in (0, n_tokens - 1))
  hidden, _ = cached_gpt(tokens, p, config, None, start, query_index=last)
  return unembed(hidden[:, 0], p, config)


def greedy(
  tokens: tf.Tensor, n_new: tf.Tensor, n_out: int, p: Params, config: GPTConfig
) -> tf.Tensor:  # int [B, T], int [] -> int32 [B, n_out]
  """Returns the `n_new` most likely tokens after rows of equal length."""
  n_rows, n_tokens = sizes(tokens)
  sampling = greedy_sampling(n_rows)
  length = tf.fill([n_rows], n_tokens)
  state = start(tokens, length, p, config, n_tokens + n_out)
  return generate(state, n_new, n_out, sampling, p, config)[1].tokens
