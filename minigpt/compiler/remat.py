"""Rematerialization: less memory for more arithmetic (Chen et al. 2016).

`tf.recompute_grad` does not take its place: see docs/design/compilation.md.
"""

import functools
import math
from collections.abc import Callable
from typing import Any

import tensorflow as tf

from minigpt.compiler import barriers

# A step of a small model is short, and its memory does not matter.
FREE_BYTES = 4 << 20


def worth_rematerializing(*shape: int | tf.Tensor) -> bool:
  """Tells whether floats of this shape take much memory to keep.

  Args:
    shape: sizes; tensors where tracing does not know them, which counts as
      much.
  """
  sizes = [n for n in shape if isinstance(n, int)]
  return len(sizes) < len(shape) or 4 * math.prod(sizes) > FREE_BYTES


def rematerialized(f: Callable[..., tf.Tensor]) -> Callable[..., tf.Tensor]:
  """Returns `f`, of which a tape keeps the arguments alone.

  Its gradient computes `f` again, up to where nothing more is needed.

  Args:
    f: a function of a float tensor [N, ...], N at least 1, and of trees of
      tensors. It may close over what needs no gradient.
  """

  @functools.wraps(f)
  def call(*args: Any) -> tf.Tensor:
    @tf.custom_gradient
    def keeping(*leaves):
      def gradient(upstream):
        # XLA would merge equal operations, and keep what they made.
        first = barriers.depend_on(leaves[0], upstream)
        again = [first, *leaves[1:]]
        with tf.GradientTape() as tape:
          tape.watch(again)
          y = f(*tf.nest.pack_sequence_as(args, again))
        return tape.gradient(y, again, upstream)

      unseen = map(tf.stop_gradient, leaves)
      return f(*tf.nest.pack_sequence_as(args, list(unseen))), gradient

    return keeping(*map(tf.convert_to_tensor, tf.nest.flatten(args)))

  return call
