"""Identities that keep XLA from moving, repeating or merging computations.

Each changes no value and no gradient. Outside an XLA program `depend_on` is a
control dependency, and the other two return what they are given.

The optimization barrier of XLA (`jax.lax.optimization_barrier`) is not used:
see docs/design/compilation.md for what it did in each of the three places.
"""

import math

import tensorflow as tf

from minigpt.compiler import backend


def depend_on(x: tf.Tensor, y: tf.Tensor) -> tf.Tensor:
  """Returns `x`, with which nothing can be computed before there is `y`.

  What does not change in a loop, XLA computes before the loop: a cast of all
  weights, whose result each iteration then reads in their place. And what a
  gradient computes again, to save memory, it would compute early, or take for
  what has been computed already.

  Args:
    x: a tensor of floats or integers, of any shape.
    y: float [N, ...], N at least 1.
  """
  current = backend.current()
  if not current.is_whole_xla:
    with tf.control_dependencies([y]):
      return tf.identity(x)
  if x.dtype == tf.bfloat16:  # XLA would round what it subtracts from.
    return tf.bitcast(depend_on(tf.bitcast(x, tf.int16), y), x.dtype)
  # Nothing is greater than infinity, but XLA's passes do not know that. The
  # code generator behind them does, and subtracts nothing.
  return x - tf.cast(_never(y), x.dtype)


def materialize(x: tf.Tensor) -> tf.Tensor:
  """Returns `x`, which XLA computes once and not again for each use.

  A division is too expensive for XLA to repeat, so it ends the loop that
  makes `x`. And `x` stays in its shape: what XLA finds divided in another one,
  it would reshape number by number wherever it is used.

  Args:
    x: float [N, ..., M], N and M at least 1.
  """
  if not backend.current().is_whole_xla:
    return x
  # One divisor for all would let a reshape of `x` pass; for all that XLA knows,
  # the columns are divided by different numbers.
  is_other = tf.range(tf.shape(x)[-1]) < tf.cast(_never(x), tf.int32)
  return x / (1 + tf.cast(is_other, x.dtype))


def materialize_gradient(x: tf.Tensor) -> tf.Tensor:
  """Returns `x`, whose gradient XLA computes once (see `materialize`)."""
  return _materialized(x) if backend.current().is_whole_xla else x


@tf.custom_gradient
def _materialized(x):
  return tf.identity(x), materialize


def _never(x):
  return tf.reshape(x, [-1])[0] > math.inf
