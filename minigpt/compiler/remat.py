"""Less memory for more arithmetic: what a gradient computes once more."""

import functools
import math
from collections.abc import Callable
from typing import Any

import tensorflow as tf

from minigpt.compiler import backend

# A step of a small model is short, and memory no matter.
FREE_BYTES = 4 << 20


def pays(*shape: int | tf.Tensor) -> bool:
  """Whether numbers of this shape, tensors if unknown, take much to keep."""
  is_known = all(isinstance(n, int) for n in shape)
  return not is_known or 4 * math.prod(shape) > FREE_BYTES


def recomputed(f: Callable[..., tf.Tensor]) -> Callable[..., tf.Tensor]:
  """`f`, of which a tape keeps the arguments alone (Chen et al. 2016).

  Its gradient computes `f` again, up to where nothing more is needed.

  Args:
    f: a function of a float tensor [N, ...], N at least 1, and of trees of
      them. It may close over what needs no gradient.
  """

  @functools.wraps(f)
  def call(*args: Any) -> tf.Tensor:
    @tf.custom_gradient
    def keeping(*leaves):
      def gradient(upstream):
        # XLA would take equal operations for one, and keep what they made.
        first = backend.after(leaves[0], upstream)
        again = [first, *leaves[1:]]
        with tf.GradientTape() as tape:
          tape.watch(again)
          y = f(*tf.nest.pack_sequence_as(args, again))
        return tape.gradient(y, again, upstream)

      unseen = map(tf.stop_gradient, leaves)
      return f(*tf.nest.pack_sequence_as(args, list(unseen))), gradient

    return keeping(*map(tf.convert_to_tensor, tf.nest.flatten(args)))

  return call
