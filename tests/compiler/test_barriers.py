"""Barriers change no value, and also work outside XLA."""

import math

import numpy as np
import pytest
import tensorflow as tf

from minigpt.compiler import barriers, jit


@pytest.mark.parametrize('dtype', ['float32', 'bfloat16'])
@pytest.mark.parametrize(
  'f', [barriers.materialize, lambda x: barriers.depend_on(x, x)]
)
def test_what_steers_xla_changes_no_value(f, dtype):
  x = tf.constant([math.inf, -math.inf, math.nan, -0.0, 1e-30, 3.0], dtype)
  for order in x, x[::-1]:
    found = jit.compiled(f)(order)
    np.testing.assert_array_equal(
      *(tf.cast(y, tf.float32) for y in (found, order))
    )


@pytest.mark.parametrize('mode', ['hybrid', 'graph'])
def test_without_xla_what_comes_after_waits(mode):
  def f(x, y):
    return 2.0 * barriers.depend_on(x, y + 1.0)

  graph = jit.compiled(f, mode).get_concrete_function(*[tf.ones([2])] * 2).graph
  [late] = [op for op in graph.get_operations() if op.control_inputs]
  assert [op.type for op in late.control_inputs] == ['AddV2']
