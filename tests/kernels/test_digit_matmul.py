"""Matmuls of exports with int8 weights."""

import numpy as np
import pytest
import tensorflow as tf

from minigpt.compiler import jit
from minigpt.kernels import digit_matmul
from minigpt.kernels.quantize import dequantized, quantize
from minigpt.model import layers
from minigpt.model.params import Linear

pytestmark = pytest.mark.skipif(
  not digit_matmul.available(), reason="this TensorFlow lacks oneDNN's kernels"
)
KERNEL = '_QuantizedMatMul'


def normal(*shape):
  rng = np.random.default_rng(len(shape))
  return rng.standard_normal(shape).astype(np.float32)


# Of the last 96 outputs, each is one number of the row.
WEIGHTS = np.concatenate([normal(96, 40), np.eye(96, dtype=np.float32)], 1)
LAYER = digit_matmul.stored(Linear(tf.constant(WEIGHTS), normal(136)))
multiply = jit.compiled(lambda x: layers.linear(x, LAYER), 'graph-onednn')


def rows_of_all_sizes():
  x = normal(9, 96)
  x[1], x[2], x[3] = 0, 1e5 * x[2], 1e-5 * x[3]
  x[4] = np.abs(x[4])
  return x


def test_a_row_is_off_by_half_of_a_level_at_most():
  x = rows_of_all_sizes()
  w = dequantized(LAYER.w, tf.float32).numpy().astype(np.float64)
  b = LAYER.b.astype(np.float64)
  level = np.abs(x).max(1, keepdims=True) / 8127
  error = np.abs(multiply(x) - (x @ w + b))
  # Halves of levels, rounded up and down; the rest is float32's.
  allowed = 0.51 * level * np.abs(w).sum(0) + 1e-6 * (1 + np.abs(x) @ np.abs(w))
  assert np.all(error < allowed)


def test_a_row_does_not_depend_on_the_others():
  x = rows_of_all_sizes()
  together = multiply(x)
  np.testing.assert_array_equal(together[1], LAYER.b)
  for n in (1, 2, 5):
    np.testing.assert_array_equal(multiply(x[:n]), together[:n])
  x[0, 3], x[5, 4] = np.nan, np.inf
  spoiled = multiply(x).numpy()
  assert not np.isfinite(spoiled[[0, 5]]).any()
  np.testing.assert_array_equal(spoiled[6:], together[6:])


def test_no_digit_has_eight_bits(monkeypatch):
  """Without VNNI, oneDNN adds two products of bytes in 16 bits."""
  seen = []

  def see(digits, w, packs):
    seen.append(digits)
    return tf.zeros([len(digits), 136])

  monkeypatch.setattr(digit_matmul, '_multiply', see)
  digit_matmul.digit_matmul(tf.constant(rows_of_all_sizes()), LAYER.w)
  assert 120 < np.max(seen) < 128


def packing(mode, layer, *shape):
  """For each matmul of bytes, whether it keeps packed weights."""
  f = jit.compiled(lambda x: layers.linear(x, layer), mode)
  made = f.get_concrete_function(tf.TensorSpec(shape)).graph.get_operations()
  return [op.get_attr('is_weight_const') for op in made if op.type == KERNEL]


def test_a_step_of_one_token_packs_and_a_prompt_does_not():
  assert packing('graph-onednn', LAYER, None, 1, 96) == [True]
  assert packing('graph-onednn', LAYER, None, 96) == [True]
  assert packing('graph-onednn', LAYER, None, None, 96) == [False]


def test_other_weights_and_other_backends_are_left_alone():
  other = Linear(tf.Variable(normal(96, 40)))
  cast = quantize(other, 'int8', exported=True, compiled=False)
  for layer, mode in ((LAYER, 'graph'), (cast, 'graph-onednn')):
    assert packing(mode, layer, 2, 1, 96) == []
