"""Products in few bits: the same numbers, by the units that are there."""

import re

import numpy as np
import pytest
import tensorflow as tf

from minigpt import lowering, products, training
from minigpt.config import COMPILE_MODES, GPTConfig, TrainConfig
from minigpt.model import GPT
from minigpt.products import product

needs_units = pytest.mark.skipif(
  not lowering._has_bfloat16_units(),
  reason='this processor has no units for bfloat16',
)


def drawn(shape, seed, dtype='bfloat16'):
  return tf.cast(tf.random.stateless_normal(shape, [seed, 0]), dtype)


def with_gradients(multiply, *sides):
  """A function of two factors to their product and both gradients."""

  def f(a, b, dy):
    with tf.GradientTape() as tape:
      tape.watch([a, b])
      y = multiply(a, b, *sides)
    return y, *tape.gradient(y, [a, b], dy)

  return f


@needs_units
@pytest.mark.parametrize('leading', [[], [3], [2, 3]])
@pytest.mark.parametrize('transpose_a', [False, True])
@pytest.mark.parametrize('transpose_b', [False, True])
def test_a_product_by_units_is_the_product(transpose_b, transpose_a, leading):
  a = drawn([*leading, *([16, 9] if transpose_a else [9, 16])], 0)
  b = drawn([*leading, *([24, 16] if transpose_b else [16, 24])], 1)
  given, sides = (a, b, drawn([*leading, 9, 24], 2)), (transpose_a, transpose_b)
  found = lowering.compiled(with_gradients(product, *sides))(*given)
  exact = (tf.cast(x, tf.float32) for x in given)
  for one, wanted in zip(
    found, with_gradients(tf.matmul, *sides)(*exact), strict=True
  ):
    assert one.dtype == tf.bfloat16
    # Rounded once, at the end.
    np.testing.assert_allclose(
      tf.cast(one, tf.float32), wanted, rtol=2**-8, atol=1e-5
    )


def dots(hlo):
  """(dtype of the result, dtypes of the factors) of each product."""
  dtypes = dict(re.findall(r'(%\S+) = (\w+)\[', hlo))
  found = re.findall(r' = (\w+)\[\S+ dot\((%\S+), (%\S+)\)', hlo)
  return [(y, dtypes[a], dtypes[b]) for y, a, b in found]


@needs_units
def test_every_product_of_a_training_step_is_left_to_the_units():
  config = GPTConfig(64, 16, 32, 2, 2, drop_rate=0.0)
  state = training.TrainState(GPT(config))
  recipe = TrainConfig(
    batch_size=2, grad_accum=1, compute_dtype='bfloat16', compile='xla'
  )
  steps = training.compiled_train_steps(state, config, recipe)
  windows = tf.zeros([1, 1, 2, 17], tf.int32)
  hlo = steps.experimental_get_compiler_ir(windows, tf.constant(1))(
    'optimized_hlo'
  )
  wide = [kinds for kinds in dots(hlo) if kinds[1:] != ('f32', 'f32')]
  assert set(wide) == {('f32', 'bf16', 'bf16')}
  # Six a block, the logits, and two for the gradient of each.
  assert len(wide) == 3 * (2 * 6 + 1)


@pytest.mark.parametrize('mode', COMPILE_MODES)
def test_what_is_not_for_these_units_is_left_alone(mode, monkeypatch):
  def barriers(f, dtype):
    graph = f.get_concrete_function(*[tf.TensorSpec([4, 4], dtype)] * 2).graph
    return sum('Barrier' in op.type for op in graph.get_operations())

  for units in (False, True):
    monkeypatch.setattr(lowering, '_has_bfloat16_units', lambda u=units: u)
    f = lowering.compiled(product, mode)
    helped = 2 if units and mode == 'xla' else 0
    assert barriers(f, tf.bfloat16) == helped
    assert barriers(f, tf.float32) == 0
    for device in lowering.DEVICES:
      assert barriers(lowering.retraced(f, device), tf.bfloat16) == 0


def test_a_product_that_nobody_compiles_is_a_plain_one(monkeypatch):
  monkeypatch.setattr(lowering, '_has_bfloat16_units', lambda: True)
  a, b = drawn([4, 4], 0), drawn([4, 4], 1)
  for f in (product, tf.function(product)):
    np.testing.assert_array_equal(
      *(tf.cast(y, 'float32') for y in (f(a, b), a @ b))
    )


def test_which_products_suit_few_rows():
  def suit(mode):
    with lowering.tracing(mode):
      return [n for n in (None, 1, 2, 15, 16) if products.suits_few(n)]

  assert suit('xla') == [2, 15]
  assert suit('hybrid') == suit('graph') == [None, 1, 2, 15]
