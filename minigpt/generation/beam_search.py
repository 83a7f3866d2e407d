"""Beam search, with the scores and the early stopping of `transformers`.

Each step takes the 2 W most likely continuations of the W beams of a row.
Continuations that end become finished beams; the best W of the others go on. A
row is done when none of its beams can still beat its finished ones.

https://huggingface.co/docs/transformers/generation_strategies

Shapes: B rows, W beams, N new tokens, V vocabulary.
"""

import math
from typing import NamedTuple

import tensorflow as tf

from minigpt.config import GPTConfig
from minigpt.generation import constraint, decode, logits_processors
from minigpt.generation.constraint import Constraint
from minigpt.model.params import Params

# Lower than every real score, at any length penalty.
_LOWEST = -math.inf


class Beams(NamedTuple):
  """Continuations of each row, the best first."""

  tokens: tf.Tensor  # int32 [B, W, N], filled with the stop token or zeros
  n_tokens: tf.Tensor  # int32 [B, W]
  score: tf.Tensor  # f32 [B, W], log probability / n_tokens ** length_penalty


class _Search(NamedTuple):
  state: decode.State  # of B * W rows
  running: Beams  # unfinished; the score is the log probability alone
  finished: Beams
  is_open: tf.Tensor  # bool [B], whether a running beam may still win


def search(
  state: decode.State,
  n_new: tf.Tensor,
  n_out: int,
  width: int,
  length_penalty: float | tf.Tensor,
  p: Params,
  config: GPTConfig,
  stop_token: int | None = None,
  rules: logits_processors.Rules | None = None,
  grammars: Constraint | None = None,
) -> Beams:
  """Finds the W best continuations of up to `n_new` tokens.

  Args:
    state: B rows whose windows have room for all new tokens.
    n_new: int32 [], at most `n_out`.
    n_out: size N of the output.
    width: W, the number of beams.
    length_penalty: above 0 favours long continuations.
    stop_token: a beam that takes it is finished.
    rules: of B rows, applied to log probabilities.
    grammars: of B rows; a beam is finished once its text is complete.
  """
  rules, grammars = _of_beams(rules, grammars, width)

  def step(i, now):
    log_probs, caches = _log_probs(
      now.state, p, config, stop_token, rules, grammars
    )
    now = now._replace(state=now.state._replace(caches=caches))
    return i + 1, _step(
      now, log_probs, i, n_new, width, length_penalty, stop_token, grammars
    )

  first = _first_search(state, n_out, width, stop_token)
  _, last = tf.while_loop(
    lambda i, now: (i < n_new) & tf.reduce_any(now.is_open), step, (0, first)
  )
  return last.finished


def _first_search(state, n_out, width, stop_token):
  n_rows = tf.shape(state.window)[0]

  def beams(first: float) -> Beams:
    score = tf.where(tf.range(width) == 0, first, _LOWEST)
    return Beams(
      tokens=tf.fill([n_rows, width, n_out], stop_token or 0),
      n_tokens=tf.zeros([n_rows, width], tf.int32),
      score=tf.tile(score[None], [n_rows, 1]),
    )

  return _Search(
    state=_repeat(state, width),
    # The W copies of a row are equal, so only the first may count.
    running=beams(0.0),
    finished=beams(_LOWEST),
    is_open=tf.fill([n_rows], True),
  )


def _repeat(tree, width):
  return tf.nest.map_structure(lambda x: tf.repeat(x, width, axis=0), tree)


def _of_beams(rules, grammars, width):
  """Repeats the rules and limits of B rows for B * W beams."""
  if rules:
    # Banned strings are the same for all rows, so their tables stay.
    of_beams = _repeat(rules._replace(banned=()), width)
    rules = of_beams._replace(banned=rules.banned)
  if grammars:
    grammars = grammars._replace(limit=_repeat(grammars.limit, width))
  return rules, grammars


def _log_probs(state, p, config, stop_token, rules, grammars):
  logits, caches = decode.decode_step(state, p, config)
  log_probs = tf.nn.log_softmax(logits)
  if rules:
    log_probs = logits_processors.apply(
      log_probs, rules, state.window, state.length, state.n_sampled, stop_token
    )
  if grammars:
    allowed = constraint.allowed(grammars, state.grammar_state, state.n_sampled)
    log_probs = tf.where(allowed, log_probs, _LOWEST)
  return log_probs, caches


def _step(
  now, log_probs, i, n_new, width, length_penalty, stop_token, grammars
):
  """Takes the best continuations, and parts the finished from the running."""
  found, beam, token = _continuations(now.running, log_probs, i, width)
  ends = tf.fill(tf.shape(token), i == n_new - 1)
  if stop_token is not None:
    ends |= token == stop_token
  if grammars:
    state = tf.reshape(now.state.grammar_state, [-1, width])
    state = tf.gather(state, beam, batch_dims=1)
    ends |= constraint.follow(grammars.tables, state, token, n_new - i - 1) < 0
  score = found.score / tf.cast(found.n_tokens, tf.float32) ** length_penalty
  # As in `transformers`, only the W best of the 2 W may finish.
  is_high = tf.range(token.shape[1]) < width
  may_finish = ends & is_high & now.is_open[:, None]
  candidates = found._replace(score=_or_lowest(score, may_finish))
  finished = _best(_concat(now.finished, candidates), width)
  log_prob = _or_lowest(found.score, ~ends)
  place = tf.math.top_k(log_prob, width)[1]
  running = _pick(found._replace(score=log_prob), place)
  state = _reorder(
    now.state,
    tf.gather(beam, place, batch_dims=1),
    tf.gather(token, place, batch_dims=1),
    grammars,
  )
  is_open = now.is_open & _may_improve(running, finished, i, length_penalty)
  return _Search(state, running, finished, is_open)


def _continuations(running, log_probs, i, width):
  """Returns the best continuations of each row, their beams and tokens."""
  n_tokens = log_probs.shape[-1]
  total = tf.reshape(log_probs, [-1, width, n_tokens])
  total = tf.reshape(total + running.score[..., None], [-1, width * n_tokens])
  # With a vocabulary of one token, a beam has only one continuation.
  score, place = tf.math.top_k(total, width * min(2, n_tokens))
  beam, token = place // n_tokens, place % n_tokens
  found = _pick(running, beam)
  here = tf.range(found.tokens.shape[-1]) == i
  found = Beams(
    tokens=tf.where(here, token[..., None], found.tokens),
    n_tokens=found.n_tokens + 1,
    score=score,
  )
  return found, beam, token


def _may_improve(running, finished, i, length_penalty):
  """Returns whether the best running beam would be kept if it ended now."""
  length = tf.cast(i + 1, tf.float32)
  best = running.score[:, 0] / length**length_penalty
  return best > tf.reduce_min(finished.score, 1)


def _or_lowest(score, counts):
  return tf.where(counts, score, _LOWEST)


def _concat(a: Beams, b: Beams) -> Beams:
  return tf.nest.map_structure(lambda x, y: tf.concat([x, y], 1), a, b)


def _best(beams: Beams, width: int) -> Beams:
  return _pick(beams, tf.math.top_k(beams.score, width)[1])


def _pick(beams: Beams, place: tf.Tensor) -> Beams:
  return tf.nest.map_structure(
    lambda x: tf.gather(x, place, batch_dims=1), beams
  )


def _reorder(state, beam, token, grammars):
  """Gives each of the B * W rows the state of its beam, and its new token."""
  n_rows, width = tf.shape(beam)[0], beam.shape[1]
  source = tf.reshape(tf.range(n_rows)[:, None] * width + beam, [-1])
  state = tf.nest.map_structure(lambda x: tf.gather(x, source), state)
  token = tf.reshape(token, [-1])
  running = ~state.done
  state = decode.append(state, running, token, None)
  if grammars:
    state = decode.follow_grammar(state, running, token, grammars)
  return state
