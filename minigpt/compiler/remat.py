"""Rematerialization: gradients recompute values to save memory.

Source: Chen et al. 2016. docs/design/compilation.md says why
`tf.recompute_grad` does not do here.
"""

import functools
import math
from collections.abc import Callable
from typing import Any

import tensorflow as tf

from minigpt.compiler import barriers

# Smaller tensors are kept: the memory of small models does not matter.
FREE_BYTES = 4 << 20


def worth_rematerializing(*shape: int | tf.Tensor) -> bool:
  """Tells whether a float32 tensor takes more memory than `FREE_BYTES`.

  Args:
    shape: sizes of the tensor; a size unknown while tracing (a tensor) counts
      as large.
  """
  sizes = [n for n in shape if isinstance(n, int)]
  return len(sizes) < len(shape) or 4 * math.prod(sizes) > FREE_BYTES


def rematerialized(f: Callable[..., tf.Tensor]) -> Callable[..., tf.Tensor]:
  """Makes a tape keep only the arguments of `f`; its gradient recomputes `f`.

  Args:
    f: a function of a float tensor [N, ...], N at least 1, and of trees of
      tensors. It may close over tensors that need no gradient.
  """

  @functools.wraps(f)
  def call(*args: Any) -> tf.Tensor:
    @tf.custom_gradient
    def keeping(*leaves):
      def gradient(upstream):
        # Without the barrier, XLA would merge this with the first computation
        # of `f`, and keep its intermediate values until here.
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
