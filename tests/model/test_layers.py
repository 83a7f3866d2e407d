import math

import numpy as np
import pytest
import tensorflow as tf

from minigpt.compiler import jit
from minigpt.config import COMPILE_MODES
from minigpt.kernels import elementwise
from minigpt.model import layers, params
from minigpt.model.params import LayerNorm, Linear


def test_gelu_is_the_tanh_form_of_gpt2():
  x = np.array([-3.0, -1.0, 0.0, 0.5, 2.0], np.float32)
  inner = math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)
  expected = 0.5 * x * (1 + np.tanh(inner))
  np.testing.assert_allclose(layers.gelu(tf.constant(x)), expected, 1e-4)
  # The exact form differs in the fourth digit.
  assert abs(layers.gelu(tf.constant(2.0)).numpy() - 1.9545977) < 1e-6


def test_layernorm_has_mean_b_and_deviation_g():
  x = tf.constant([[1.0, 2.0, 3.0, 6.0]])
  g, b = tf.constant([1.0, 2.0, 1.0, 1.0]), tf.constant([0.0, 0.0, 5.0, 0.0])
  deviation = math.sqrt((4 + 1 + 0 + 9) / 4 + 1e-5)
  expected = np.array([[-2.0, -1.0, 0.0, 3.0]]) / deviation * g + b
  np.testing.assert_allclose(
    layers.layernorm(x, LayerNorm(g, b)), expected, rtol=1e-5
  )


def test_layernorm_computes_in_float32():
  x = tf.cast(1000 + tf.range(64.0)[None] / 8, tf.bfloat16)
  p = LayerNorm(tf.ones([64], tf.bfloat16))
  exact = layers.layernorm(tf.cast(x, tf.float32), LayerNorm(tf.ones([64])))
  np.testing.assert_allclose(
    tf.cast(layers.layernorm(x, p), tf.float32), exact, atol=0.02
  )


def test_linear_with_and_without_bias():
  x, w = tf.constant([[1.0, 2.0]]), tf.constant([[1.0, 0.0], [3.0, -1.0]])
  assert layers.linear(x, Linear(w)).numpy().tolist() == [[7.0, -2.0]]
  with_bias = layers.linear(x, Linear(w, tf.constant([1.0, 1.0])))
  assert with_bias.numpy().tolist() == [[8.0, -1.0]]


def test_dropout_keeps_the_mean_and_repeats_itself():
  x, rng = tf.ones([100, 100]), tf.constant([1, 2])
  y = layers.dropout(x, 0.25, rng).numpy()
  np.testing.assert_allclose(np.unique(y), [0, 4 / 3], rtol=1e-6)
  assert abs(y.mean() - 1) < 0.02
  np.testing.assert_array_equal(y, layers.dropout(x, 0.25, rng))
  assert (y != layers.dropout(x, 0.25, tf.constant([1, 3])).numpy()).any()
  np.testing.assert_array_equal(x, layers.dropout(x, 0.25, None))


def test_fold_gives_distinct_seeds():
  rng = tf.constant([5, 6])
  seeds = {tuple(layers.fold_in(rng, i).numpy()) for i in range(20)}
  assert len(seeds) == 20
  assert layers.fold_in(None, 3) is None


def test_cross_entropy_of_uniform_logits_is_log_v():
  logits = tf.zeros([2, 3, 50])
  targets = tf.zeros([2, 3], tf.int32)
  np.testing.assert_allclose(
    layers.cross_entropy(logits, targets), np.full([2, 3], math.log(50)), 1e-6
  )


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


def plain_layernorm(x, g, b):
  mean, variance = tf.nn.moments(x, -1, keepdims=True)
  return (x - mean) * tf.math.rsqrt(variance + 1e-5) * g + b


def plain_gelu(x):
  return 0.5 * x * (1 + tf.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))


WRITTEN_OUT = {
  'gelu': (
    lambda x, g, b, _: layers.gelu(g * x + b),
    lambda x, g, b, _: plain_gelu(g * x + b),
  ),
  'layernorm': (
    lambda x, g, b, _: layers.layernorm(x, LayerNorm(g, b)),
    lambda x, g, b, _: plain_layernorm(x, g, b),
  ),
  'cross entropy': (
    lambda x, g, b, targets: layers.cross_entropy(g * x + b, targets),
    lambda x, g, b, targets: tf.nn.sparse_softmax_cross_entropy_with_logits(
      targets, g * x + b
    ),
  ),
}


@pytest.mark.parametrize('name', WRITTEN_OUT)
@pytest.mark.parametrize('dtype, rtol', [('float32', 1e-4), ('bfloat16', 2e-2)])
def test_a_gradient_that_is_written_out_is_that_of_a_tape(name, dtype, rtol):
  x, g, b = (
    tf.cast(tf.random.stateless_normal(shape, [i, 0]), dtype)
    for i, shape in enumerate([[2, 3, 40], [40], [40]])
  )
  targets = tf.constant([[0, 39, 7], [7, 7, 12]])

  def run(f, *given):
    with tf.GradientTape() as tape:
      tape.watch(given)
      y = tf.cast(f(*given, targets), tf.float32)
      loss = tf.reduce_sum(y * tf.range(1.0, 1.0 + y.shape[-1]))
    return y, *(tf.cast(d, tf.float32) for d in tape.gradient(loss, given))

  ours, plain = WRITTEN_OUT[name]
  exact = run(plain, *(tf.cast(part, tf.float32) for part in (x, g, b)))
  for found, wanted in zip(run(ours, x, g, b), exact, strict=True):
    atol = rtol * np.abs(wanted).max()
    np.testing.assert_allclose(found, wanted, rtol=rtol, atol=atol)


@pytest.mark.parametrize('leading', [[2, 3], [2, 20], [0]])
def test_rows_add_up(leading):
  x = tf.random.stateless_normal([*leading, 50], [0, 0])
  sums = np.array(x).sum(-1, keepdims=True)
  np.testing.assert_allclose(
    elementwise.row_sums(x), sums, rtol=1e-4, atol=1e-5
  )
