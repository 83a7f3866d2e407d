"""The functions of `model.layers`, checked by hand."""

import math

import numpy as np
import tensorflow as tf

from minigpt.compiler import jit
from minigpt.model import layers
from minigpt.model.params import LayerNorm, Linear


def test_gelu_is_the_tanh_form_of_gpt2():
  x = np.array([-3.0, -1.0, 0.0, 0.5, 2.0], np.float32)
  inner = math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)
  expected = 0.5 * x * (1 + np.tanh(inner))
  np.testing.assert_allclose(layers.gelu(tf.constant(x)), expected, 1e-4)
  # The exact form of GELU differs in the fourth digit.
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


def test_looking_up_rows_leaves_later_reads_of_a_variable_free():
  table = tf.Variable(tf.zeros([5, 2]))
  look_up = jit.compiled(lambda i: layers.embedding_lookup(table, i), 'graph')
  graph = look_up.get_concrete_function(tf.TensorSpec([None], tf.int32)).graph
  # ResourceGather makes the variable copy itself whenever it is read.
  assert 'ResourceGather' not in {op.type for op in graph.get_operations()}
