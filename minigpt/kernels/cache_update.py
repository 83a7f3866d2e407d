"""Updates of the KV cache in place, by TensorFlow's kernels.

Why: the kernel of `tf.tensor_scatter_nd_update` copies the cache for each
token. Another writes into it, once nobody reads it any longer.

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
  """Puts new vectors into slots from `position` on, without a copy."""
  return write_in_place(cache, slot_index(new, position), new)


def write_in_place(
  cache: tf.Tensor, index: tf.Tensor, new: tf.Tensor
) -> tf.Tensor:
  """Returns `tf.tensor_scatter_nd_update`, in the memory of the cache.

  It is a copy after all where others still read the cache.
  """
  # Without the wait, an iteration of a loop would begin here while the one
  # before still attends to the cache, and the first write would copy it.
  with tf.control_dependencies([new]):
    old = tf.gather_nd(cache, index)
  # The kernel adds: what the slots hold has to become 0 first.
  for change in (-old, new):
    cache = tf.raw_ops.ScatterNdNonAliasingAdd(
      input=cache, indices=index, updates=change
    )
  return cache
