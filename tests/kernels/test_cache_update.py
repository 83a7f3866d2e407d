"""Updates of the KV cache."""

import numpy as np
import tensorflow as tf

from minigpt.compiler import jit
from minigpt.config import COMPILE_MODES
from minigpt.model.kv_cache import update_slots


def test_slots_are_written_alike_over_what_they_held():
  rng = np.random.default_rng(0)
  cache = rng.standard_normal([2, 3, 5, 4]).astype(np.float32) * 1e6
  new = rng.standard_normal([2, 3, 2, 4]).astype(np.float32)
  position = tf.constant([0, 3])
  expected = cache.copy()
  expected[0, :, 0:2], expected[1, :, 3:5] = new[0], new[1]
  for mode in COMPILE_MODES:
    written = jit.compiled(update_slots, mode)(
      tf.constant(cache), tf.constant(new), position
    )
    np.testing.assert_array_equal(written, expected)


def test_a_cache_is_written_in_place_on_the_stock_server():
  step = jit.compiled(update_slots, 'graph').get_concrete_function(
    tf.TensorSpec([None, 3, None, 4]),
    tf.TensorSpec([None, 3, 1, 4]),
    tf.TensorSpec([None], tf.int32),
  )
  kinds = {op.type for op in step.graph.get_operations()}
  assert 'ScatterNdNonAliasingAdd' in kinds
  assert 'TensorScatterUpdate' not in kinds  # It copies the cache.
  # So would the first write if it did not wait for this iteration's keys.
  (first,) = (op for op in step.graph.get_operations() if op.type == 'GatherNd')
  assert [op.name for op in first.control_inputs] == ['new']
