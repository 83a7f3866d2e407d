"""The small pure functions a transformer is written in.

Shapes: `...` any leading dimensions, D and F features, V vocabulary.
"""

import functools
import math
from collections.abc import Callable
from typing import Any

import tensorflow as tf

from minigpt.compiler.dispatch import Op
from minigpt.model.params import LayerNorm, Leaf, Linear, is_absent


def sizes(x: tf.Tensor) -> list[int | tf.Tensor]:
  """Returns each dimension's size: an int, or a tensor where not static."""
  known, size = x.shape, tf.shape(x)
  return [size[i] if n is None else n for i, n in enumerate(known)]


def in_float32(f: Callable[..., tf.Tensor]) -> Callable[..., tf.Tensor]:
  """Makes `f` compute in float32 and round its result once, to x's dtype."""

  def widen(leaf: Any) -> Any:
    return tf.cast(leaf, tf.float32) if hasattr(leaf, 'dtype') else leaf

  @functools.wraps(f)
  def call(x: tf.Tensor, *args: Any) -> tf.Tensor:
    return tf.cast(f(widen(x), *tf.nest.map_structure(widen, args)), x.dtype)

  return call


@Op
@in_float32
def gelu(x: tf.Tensor) -> tf.Tensor:  # [...] -> [...]
  """Computes GELU in its tanh form (Hendrycks & Gimpel 2016), as GPT-2 does."""
  return 0.5 * x * (1 + tf.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))


@Op
@in_float32
def layernorm(
  x: tf.Tensor, p: LayerNorm, epsilon: float = 1e-5
) -> tf.Tensor:  # [..., D] -> [..., D]
  """Normalizes each vector, then scales and shifts it (Ba et al. 2016)."""
  mean, variance = tf.nn.moments(x, -1, keepdims=True)
  return _plus((x - mean) / tf.sqrt(variance + epsilon) * p.g, p.b)


@Op
def linear(x: tf.Tensor, p: Linear) -> tf.Tensor:  # [..., in] -> [..., out]
  """Computes x w + b."""
  return _plus(tf.matmul(x, p.w), p.b)


def _plus(x: tf.Tensor, b: Leaf) -> tf.Tensor:  # [..., F], [F] -> [..., F]
  return x if is_absent(b) else x + tf.cast(b, x.dtype)


@Op
def embedding_lookup(
  table: Leaf, index: tf.Tensor | slice
) -> tf.Tensor:  # [V, D], [...] -> [..., D]
  """Returns rows of an embedding."""
  # Gather from the value: gathering from the variable would make TensorFlow
  # copy the whole variable at every later read, once for each generated token.
  table = tf.convert_to_tensor(table)
  return table[index] if isinstance(index, slice) else tf.gather(table, index)


@Op
def embedding_logits(
  x: tf.Tensor, table: Leaf
) -> tf.Tensor:  # [..., D], [V, D] -> [..., V]
  """Computes x w': the dot product of x with every row of an embedding."""
  return tf.matmul(x, table, transpose_b=True)


def fold_in(rng: tf.Tensor | None, number: int | tf.Tensor) -> tf.Tensor | None:
  """Derives the `number`-th seed of `rng`, int32 [2]; None stays None."""
  if rng is None:
    return None
  return tf.random.experimental.stateless_fold_in(rng, number, alg='philox')


@Op
def dropout(
  x: tf.Tensor, rate: float, rng: tf.Tensor | None
) -> tf.Tensor:  # [...] -> [...]
  """Zeroes a share `rate` of x and scales up the rest (Srivastava et al. 2014).

  Args:
    rng: int32 [2] seed that decides which entries are zeroed; None: no dropout.
  """
  if rng is None or rate == 0:
    return x
  # Compare integers: compilers differ in how they turn random bits to floats.
  bits = tf.random.stateless_uniform(
    tf.shape(x), rng, None, None, tf.uint32, alg='philox'
  )
  keep = tf.cast(bits >= tf.constant(int(rate * 2**32), tf.uint32), x.dtype)
  return x * keep / (1 - rate)


@Op
def cross_entropy(
  logits: tf.Tensor, targets: tf.Tensor
) -> tf.Tensor:  # [..., V], int [...] -> float32 [...]
  """Computes -log softmax(logits)[target] in nats."""
  logits = tf.cast(logits, tf.float32)
  at_target = tf.gather(logits, targets, batch_dims=len(targets.shape))
  return tf.reduce_logsumexp(logits, -1) - at_target
