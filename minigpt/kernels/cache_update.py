"""Updates of the KV cache in place, with TensorFlow's kernels.

Why: the kernel of `tf.tensor_scatter_nd_update` copies the cache for each
token. The kernel used here writes in place, if nothing else reads the cache.

For: `hybrid` and `graph`; XLA updates in place by itself.

Measured: docs/design/performance_notes.md; `minigpt bench --what=decode
--compile=graph`.
"""

import tensorflow as tf

from minigpt.compiler.backend import GRAPH
from minigpt.model.kv_cache import slot_index, update_slots


@update_slots.implementation('hybrid', *GRAPH)
def update_slots_in_place(
  cache: tf.Tensor, new: tf.Tensor, position: tf.Tensor
) -> tf.Tensor:  # [B, H, S, K], [B, H, T, K], int32 [B] -> [B, H, S, K]
  """Writes new vectors to the slots from `position` on, without a copy."""
  return write_in_place(cache, slot_index(new, position), new)


def write_in_place(
  cache: tf.Tensor, index: tf.Tensor, new: tf.Tensor
) -> tf.Tensor:
  """Computes `tf.tensor_scatter_nd_update` in place.

  The kernel still copies the cache if another operation is yet to read it.
  """
  # Wait for `new`: otherwise this would start while the previous iteration of
  # the loop still attends to the cache, and the first write would copy it.
  with tf.control_dependencies([new]):
    old = tf.gather_nd(cache, index)
  # The kernel adds, so first subtract the old content of the slots.
  for change in (-old, new):
    cache = tf.raw_ops.ScatterNdNonAliasingAdd(
      input=cache, indices=index, updates=change
    )
  return cache
