"""Kernels for sums, biases and GELU."""

import numpy as np
import pytest
import tensorflow as tf

from minigpt.compiler import jit
from minigpt.config import COMPILE_MODES
from minigpt.kernels import elementwise
from minigpt.model import layers, params


@pytest.mark.parametrize('mode', COMPILE_MODES)
@pytest.mark.parametrize('known', [True, False])
@pytest.mark.parametrize('absent', [True, False])
def test_a_bias_is_added_and_has_the_gradient_of_an_addition(
  absent, known, mode
):
  rng = np.random.default_rng(0)
  x, b, dy = (
    tf.constant(rng.standard_normal(shape), tf.float32)
    for shape in ([3, 4, 5], [5], [3, 4, 5])
  )

  def add(x, dy):
    variable = params.ABSENT if absent else stored
    with tf.GradientTape() as tape:
      tape.watch(x)
      y = elementwise.add_bias(x, variable)
    return y, tape.gradient(y, [x, stored], dy, unconnected_gradients='zero')

  stored = tf.Variable(b)
  spec = tf.TensorSpec([3 if known or mode == 'xla' else None, 4, 5])
  made = jit.compiled(add, mode).get_concrete_function(spec, spec)
  y, (dx, db) = made(x, dy)
  np.testing.assert_allclose(y, x if absent else x + b)
  np.testing.assert_allclose(dx, dy)
  expected = np.zeros(5) if absent else np.sum(dy, (0, 1))
  np.testing.assert_allclose(db, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize('mode', COMPILE_MODES)
def test_gelu_rounds_once(mode):
  x = tf.cast(tf.linspace(-4.0, 4.0, 257), tf.bfloat16)
  exact = tf.cast(layers.gelu(tf.cast(x, tf.float32)), tf.bfloat16)
  found = jit.compiled(layers.gelu, mode)(x)
  a, b = (np.array(tf.cast(y, tf.float32)) for y in (found, exact))
  np.testing.assert_allclose(a, b, rtol=2**-7)  # Adjacent in bfloat16.


@pytest.mark.parametrize('leading', [[2, 3], [2, 20], [0]])
def test_rows_add_up(leading):
  x = tf.random.stateless_normal([*leading, 50], [0, 0])
  sums = np.array(x).sum(-1, keepdims=True)
  np.testing.assert_allclose(
    elementwise.row_sums(x), sums, rtol=1e-4, atol=1e-5
  )
