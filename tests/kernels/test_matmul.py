"""Dense layers, plain and quantized."""

import numpy as np
import pytest
import tensorflow as tf

from minigpt.compiler import jit
from minigpt.config import COMPILE_MODES, WEIGHTS
from minigpt.kernels import quantize
from minigpt.model import layers
from minigpt.model.params import Linear


def test_a_transposed_product_is_the_same_in_each_mode():
  rng = np.random.default_rng(0)
  x, w = (
    rng.standard_normal(shape).astype(np.float32)
    for shape in ([2, 3, 8], [5, 8])
  )

  def product(x):
    return layers.embedding_logits(x, tf.constant(w))

  for mode in COMPILE_MODES:
    found = jit.compiled(product, mode)(tf.constant(x))
    np.testing.assert_allclose(found, x @ w.T, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize('n_rows', [1, 2, 8, 16, None])
@pytest.mark.parametrize('weights', WEIGHTS)
def test_few_rows_and_many_are_multiplied_alike(weights, n_rows):
  rng = np.random.default_rng(0)
  w = rng.standard_normal([8, 5]).astype(np.float32)
  x = rng.standard_normal([n_rows or 3, 8]).astype(np.float32)
  kept = quantize.quantize(Linear(tf.Variable(w)), weights)
  allowed = dict.fromkeys(WEIGHTS, 0.1) | {
    'float32': 1e-5,
    'bfloat16': 0.05,
  }
  for mode in COMPILE_MODES:
    product = jit.compiled(lambda x: layers.linear(x, kept), mode)
    made = product.get_concrete_function(tf.TensorSpec([n_rows, 8]))
    found = made(tf.constant(x))
    np.testing.assert_allclose(found, x @ w, atol=allowed[weights], rtol=1e-5)
