"""Products of floats: the same numbers, by the units that are there."""

import re

import numpy as np
import pytest
import tensorflow as tf

from minigpt.compiler import backend, jit
from minigpt.config import COMPILE_MODES, GPTConfig, TrainConfig
from minigpt.kernels import matmul, onednn_matmul
from minigpt.kernels.onednn_matmul import matmul
from minigpt.model.transformer import GPT
from minigpt.training import step

needs_onednn = pytest.mark.skipif(
  not onednn_matmul.available(), reason='this machine has no oneDNN under XLA'
)
needs_units = pytest.mark.skipif(
  not (backend.has_bfloat16_units() and onednn_matmul.available()),
  reason='this machine has no units for bfloat16, or no oneDNN under XLA',
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


@pytest.mark.parametrize(
  'dtype, rtol',
  [
    pytest.param('bfloat16', 2**-8, marks=needs_units),  # Rounded at the end.
    pytest.param('float32', 1e-4, marks=needs_onednn),
  ],
)
@pytest.mark.parametrize('leading', [[], [3], [2, 3]])
@pytest.mark.parametrize('transpose_a', [False, True])
@pytest.mark.parametrize('transpose_b', [False, True])
def test_a_product_by_onednn_is_the_product(
  transpose_b, transpose_a, leading, dtype, rtol
):
  a = drawn([*leading, *([16, 9] if transpose_a else [9, 16])], 0, dtype)
  b = drawn([*leading, *([24, 16] if transpose_b else [16, 24])], 1, dtype)
  sides = transpose_a, transpose_b
  given = a, b, drawn([*leading, 9, 24], 2, dtype)
  found = jit.compiled(with_gradients(matmul, *sides))(*given)
  exact = (tf.cast(x, tf.float32) for x in given)
  for one, wanted in zip(
    found, with_gradients(tf.matmul, *sides)(*exact), strict=True
  ):
    assert one.dtype == dtype
    np.testing.assert_allclose(
      tf.cast(one, tf.float32), wanted, rtol=rtol, atol=1e-5
    )


def step_hlo(compute_dtype):
  config = GPTConfig(64, 16, 32, 2, 2, drop_rate=0.0)
  state = step.TrainState(GPT(config))
  recipe = TrainConfig(
    batch_size=2, grad_accum=1, compute_dtype=compute_dtype, compile='xla'
  )
  steps = step.compiled_train_steps(state, config, recipe)
  windows = tf.zeros([1, 1, 2, 17], tf.int32)
  return steps.experimental_get_compiler_ir(windows, tf.constant(1))(
    'optimized_hlo'
  )


@needs_units
def test_every_product_of_a_training_step_is_left_to_the_units():
  hlo = step_hlo('bfloat16')
  dtypes = dict(re.findall(r'(%\S+) = (\w+)\[', hlo))
  left = re.findall(r' dot\((%\S+), (%\S+)\)', hlo)
  assert {dtypes[factor] for pair in left for factor in pair} <= {'f32'}
  # Six a block, the logits, and two for the gradient of each.
  assert hlo.count('__onednn$matmul') == 3 * (2 * 6 + 1)


@needs_onednn
def test_gradients_of_weights_keys_and_values_are_left_to_onednn():
  # In f32 four weights a block, keys and values, and the head.
  assert step_hlo('float32').count('__onednn$matmul') == 2 * (4 + 2) + 1


@pytest.fixture(params=[False, True], ids=['without oneDNN', 'with oneDNN'])
def has_onednn(request, monkeypatch):
  monkeypatch.setattr(onednn_matmul, 'available', lambda: request.param)
  return request.param


@pytest.mark.parametrize('mode', COMPILE_MODES)
def test_what_is_not_for_these_units_is_left_alone(
  mode, has_onednn, monkeypatch
):
  def left(f, dtype, n_rows=4, transpose_a=False):
    shapes = [n_rows, 4], [4, 4]
    specs = (tf.TensorSpec(s, dtype) for s in shapes)
    made = f.get_concrete_function(*specs, transpose_a)
    types = [op.type for op in made.graph.get_operations()]
    return types.count('XlaCustomCallV2')

  for units in (False, True):
    monkeypatch.setattr(backend, 'has_bfloat16_units', lambda u=units: u)
    f = jit.compiled(matmul, mode)
    suits = units and mode == 'xla' and has_onednn
    assert left(f, tf.bfloat16) == suits
    assert left(f, tf.bfloat16, None) == 0
    assert left(f, tf.float32) == 0
    is_chosen = mode == 'xla' and has_onednn
    assert left(f, tf.float32, transpose_a=True) == is_chosen
    for device in backend.DEVICES:
      assert left(jit.retraced(f, device), tf.bfloat16) == 0


def test_a_product_that_nobody_compiles_is_a_plain_one(monkeypatch):
  monkeypatch.setattr(backend, 'has_bfloat16_units', lambda: True)
  a, b = drawn([4, 4], 0), drawn([4, 4], 1)
  for f in (matmul, tf.function(matmul)):
    np.testing.assert_array_equal(
      *(tf.cast(y, 'float32') for y in (f(a, b), a @ b))
    )


def test_which_products_suit_few_rows(has_onednn, monkeypatch):
  def suit(mode, dtype=tf.float32):
    numbers = (None, 1, 2, 15, 16)
    with backend.tracing(mode):
      return [n for n in numbers if onednn_matmul.suits_few(n, dtype)]

  monkeypatch.setattr(backend, 'has_bfloat16_units', lambda: True)
  assert suit('xla') == [2, 15]
  assert suit('xla', tf.bfloat16) == ([] if has_onednn else [2, 15])
  for dtype in (tf.float32, tf.bfloat16):
    assert suit('hybrid', dtype) == suit('graph', dtype) == [None, 1, 2, 15]
