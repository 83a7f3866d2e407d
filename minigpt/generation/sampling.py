"""Sampling a token from logits: filters, then Gumbel noise and argmax.

Each sequence of a batch has its own options and seed; its tokens depend on
these and on its logits, not on the other sequences.

Shapes: B sequences, V vocabulary.
"""

import collections
import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import tensorflow as tf

from minigpt.generation.sampling_fields import SAMPLING_FIELDS, names_of_stage

# A filter maps logits [B, V] and the option's value [B] to logits [B, V].
_Filter = Callable[[tf.Tensor, tf.Tensor], tf.Tensor]
_FILTERS: dict[str, _Filter] = {}


# Typed as Any, as type checkers cannot know fields that come from a table.
_namedtuple: Any = collections.namedtuple
_TokenOptions: Any = _namedtuple('Sampling', names_of_stage('token'))


class Sampling(_TokenOptions):
  """Values [B] of the options of `SAMPLING_FIELDS` with the stage 'token'."""

  __slots__ = ()


def make_sampling(n_rows: int | tf.Tensor, **options: Any) -> Sampling:
  """Returns options for `n_rows` sequences.

  Args:
    n_rows: B.
    **options: values, each [B] or [] for all sequences; an option that is not
      given has its default.
  """
  values = {}
  for name in Sampling._fields:
    field = SAMPLING_FIELDS[name]
    value = tf.cast(options.pop(name, field.default), field.dtype)
    values[name] = tf.broadcast_to(value, [n_rows])
  if options:
    raise TypeError(f'no sampling options: {", ".join(options)}')
  return Sampling(**values)


def select_sampling(options: Mapping[str, Any]) -> Sampling:
  """Picks the options that choose a token out of all options, each [B]."""
  return Sampling(*(tf.convert_to_tensor(options[n]) for n in Sampling._fields))


def greedy_sampling(n_rows: int | tf.Tensor) -> Sampling:
  """Returns options that always choose the most likely token."""
  return make_sampling(n_rows, temperature=0.0)


def _filters(name: str) -> Callable[[_Filter], _Filter]:
  """Registers the filter of an option; filters run in this file's order."""

  def register(f: _Filter) -> _Filter:
    _FILTERS[name] = f
    return f

  return register


@_filters('top_k')
def keep_top_k(logits: tf.Tensor, k: tf.Tensor) -> tf.Tensor:
  """Hides all but the k most likely tokens (Fan et al. 2018, section 5.1).

  [B, V], int32 [B] -> [B, V]; k = 0 keeps all.
  """
  n = logits.shape[-1]
  ranked = tf.sort(logits, direction='DESCENDING')
  last = tf.clip_by_value(tf.where(k > 0, k, n), 1, n) - 1
  threshold = tf.gather(ranked, last, batch_dims=1)[:, None]
  return tf.where(logits >= threshold, logits, -math.inf)


@_filters('top_p')
def keep_top_p(logits: tf.Tensor, p: tf.Tensor) -> tf.Tensor:
  """Hides all but the nucleus of mass p (Holtzman et al. 2020, section 3.1).

  [B, V], [B] -> [B, V]; the most likely token always stays.
  """
  ranked = tf.sort(logits, direction='DESCENDING')
  probs = tf.nn.softmax(ranked)
  before = tf.cumsum(probs, axis=-1, exclusive=True)
  n_kept = tf.reduce_sum(tf.cast(before < p[:, None], tf.int32), -1)
  last = tf.maximum(n_kept, 1) - 1
  threshold = tf.gather(ranked, last, batch_dims=1)[:, None]
  # Rounding may let the sum reach 1 too early, but p = 1 must hide nothing.
  keep = (logits >= threshold) | (p >= 1)[:, None]
  return tf.where(keep, logits, -math.inf)


@_filters('min_p')
def keep_min_p(logits: tf.Tensor, p: tf.Tensor) -> tf.Tensor:
  """Hides tokens less than p times as likely as the most likely token.

  [B, V], [B] -> [B, V] (Nguyen et al. 2024, section 3); p = 0 keeps all.
  """
  highest = tf.reduce_max(logits, -1, keepdims=True)
  threshold = highest + tf.math.log(p)[:, None]
  return tf.where(logits >= threshold, logits, -math.inf)


def gumbel(seed: tf.Tensor, step: tf.Tensor, n: int) -> tf.Tensor:
  """Returns Gumbel noise that depends only on a sequence's seed and step.

  int [B], int32 [B] -> f32 [B, n]
  """

  def one_sequence(seed_and_step):
    # Draw integers: XLA and the CPU kernel turn random bits into floats in
    # different ways.
    bits = tf.random.stateless_uniform(
      [n], seed_and_step, None, None, tf.uint32, alg='philox'
    )
    high = tf.cast(tf.bitwise.right_shift(bits, np.uint32(9)), tf.float32)
    return -tf.math.log(-tf.math.log((high + 0.5) / 2**23))

  seeds = tf.stack([seed, tf.cast(step, seed.dtype)], -1)
  return tf.map_fn(one_sequence, seeds, fn_output_signature=tf.float32)


def sample(
  logits: tf.Tensor, sampling: Sampling, step: tf.Tensor
) -> tf.Tensor:  # f32 [B, V] -> int32 [B]
  """Samples each sequence's next token.

  argmax(logits + Gumbel noise) is a sample from softmax(logits) (Gumbel 1954).

  Args:
    logits: f32 [B, V].
    sampling: temperature, filters and seed of each sequence.
    step: int32 [B], how many tokens the sequence has sampled before.
  """
  most_likely = tf.argmax(logits, -1, tf.int32)

  def with_noise():
    t = sampling.temperature[:, None]
    # Rows at temperature 0 take `most_likely` below; avoid dividing by 0.
    scaled = logits / tf.where(t > 0, t, 1.0)
    for name, keep in _FILTERS.items():
      scaled = _filter_if_used(name, keep, scaled, getattr(sampling, name))
    noise = gumbel(sampling.seed, step, logits.shape[-1])
    sampled = tf.argmax(scaled + noise, -1, tf.int32)
    return tf.where(sampling.temperature > 0, sampled, most_likely)

  # A greedy batch needs neither noise nor sorting.
  is_any_sampled = tf.reduce_any(sampling.temperature > 0)
  return tf.cond(is_any_sampled, with_noise, lambda: most_likely)


def _filter_if_used(name, keep, logits, values):
  """Runs a filter only if some sequence uses it: most filters must sort."""
  is_used = tf.reduce_any(values != SAMPLING_FIELDS[name].default)
  return tf.cond(is_used, lambda: keep(logits, values), lambda: logits)
