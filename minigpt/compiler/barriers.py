"""Identities that keep XLA from moving, repeating or merging computations.

None changes a value or a gradient. Outside an XLA program, `depend_on` is a
control dependency and the other two return their argument.

XLA's own optimization barrier (`jax.lax.optimization_barrier`) is not used:
docs/design/compilation.md reports its effect in place of each function.
"""

import math

import tensorflow as tf

from minigpt.compiler import backend


def depend_on(x: tf.Tensor, y: tf.Tensor) -> tf.Tensor:
  """Returns `x`, but lets nothing use it before `y` is computed.

  This stops two of XLA's optimizations that cost more than they save. It moves
  out of a loop what no iteration changes, such as a cast of all weights; each
  iteration then reads the result, a second copy of the weights. And it merges
  equal computations, so that values which a gradient recomputes to save memory
  would be kept after all.

  Args:
    x: a tensor of floats or integers, of any shape.
    y: float [N, ...], N at least 1.
  """
  current = backend.current()
  if not current.is_whole_xla:
    with tf.control_dependencies([y]):
      return tf.identity(x)
  if x.dtype == tf.bfloat16:  # In bfloat16, XLA would round x - 0.
    return tf.bitcast(depend_on(tf.bitcast(x, tf.int16), y), x.dtype)
  # Nothing is greater than infinity. XLA's optimization passes do not know
  # that; its code generator does, and removes the subtraction.
  return x - tf.cast(_never(y), x.dtype)


def materialize(x: tf.Tensor) -> tf.Tensor:
  """Returns `x`, but makes XLA compute it only once, in its present shape.

  XLA fuses a cheap computation into each of its uses, and thereby repeats it.
  It does not repeat a division, so a division by 1 ends the fused loop that
  computes `x`. The division must also pin the shape: if XLA moved a reshape
  before it, every use would reshape `x` element by element.

  Args:
    x: float [N, ..., M], N and M at least 1.
  """
  if not backend.current().is_whole_xla:
    return x
  # XLA can move a reshape across a division by one number, but not across one
  # whose divisors may differ by column, as these may for all that XLA knows.
  is_other = tf.range(tf.shape(x)[-1]) < tf.cast(_never(x), tf.int32)
  return x / (1 + tf.cast(is_other, x.dtype))


def materialize_gradient(x: tf.Tensor) -> tf.Tensor:
  """Returns `x`, but makes XLA compute its gradient only once.

  See `materialize`.
  """
  return _materialized(x) if backend.current().is_whole_xla else x


@tf.custom_gradient
def _materialized(x):
  return tf.identity(x), materialize


def _never(x):
  return tf.reshape(x, [-1])[0] > math.inf
