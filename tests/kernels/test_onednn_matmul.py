"""oneDNN's matmuls in an XLA program, and the fallback."""

import numpy as np
import pytest
import tensorflow as tf

from minigpt.compiler import backend, cpu_features, jit
from minigpt.config import COMPILE_MODES, STORED_WEIGHTS, GPTConfig
from minigpt.kernels import onednn_matmul, quantize
from minigpt.kernels.onednn_matmul import matmul
from minigpt.model import layers
from minigpt.model.params import Linear
from minigpt.model.transformer import GPT
from minigpt.profiling import workloads

needs_onednn = pytest.mark.skipif(
  not onednn_matmul.available(), reason='this machine has no oneDNN under XLA'
)


needs_bfloat16 = pytest.mark.skipif(
  not (cpu_features.here().bfloat16 and onednn_matmul.available()),
  reason='this machine has no units for bfloat16, or no oneDNN under XLA',
)


needs_int8 = pytest.mark.skipif(
  not onednn_matmul.reads_packed(2, 64, 64),
  reason='this machine has no oneDNN that multiplies bytes under XLA',
)


def drawn(shape, seed, dtype='bfloat16'):
  return tf.cast(tf.random.stateless_normal(shape, [seed, 0]), dtype)


def with_gradients(multiply, *sides):
  """Returns a function of two factors to their product and gradients."""

  def f(a, b, dy):
    with tf.GradientTape() as tape:
      tape.watch([a, b])
      y = multiply(a, b, *sides)
    return y, *tape.gradient(y, [a, b], dy)

  return f


@pytest.mark.parametrize(
  'dtype, rtol',
  [
    pytest.param(
      'bfloat16', 2**-8, marks=needs_bfloat16
    ),  # Only the result is rounded.
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
    monkeypatch.setattr(
      cpu_features, 'here', lambda u=units: cpu_features.Features(u, u)
    )
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
  monkeypatch.setattr(
    cpu_features, 'here', lambda: cpu_features.Features(True, True)
  )
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

  monkeypatch.setattr(
    cpu_features, 'here', lambda: cpu_features.Features(True, True)
  )
  assert suit('xla') == [2, 15]
  assert suit('xla', tf.bfloat16) == ([] if has_onednn else [2, 15])
  for dtype in (tf.float32, tf.bfloat16):
    assert suit('hybrid', dtype) == suit('graph', dtype) == [None, 1, 2, 15]


@pytest.mark.skipif(
  not onednn_matmul.available(), reason='XLA knows no oneDNN on this machine'
)
@pytest.mark.parametrize('leading', [[], [2, 3]])
@pytest.mark.parametrize('transpose_a', [False, True])
@pytest.mark.parametrize('transpose_b', [False, True])
def test_a_product_of_floats(transpose_b, transpose_a, leading):
  rng = np.random.default_rng(0)
  a = rng.standard_normal([*leading, *([16, 9] if transpose_a else [9, 16])])
  b = rng.standard_normal([*leading, *([5, 16] if transpose_b else [16, 5])])
  sides = transpose_a, transpose_b
  found = jit.compiled(onednn_matmul.onednn_matmul)(
    *(tf.constant(x, tf.float32) for x in (a, b)), *sides
  )
  np.testing.assert_allclose(found, tf.matmul(a, b, *sides), atol=1e-5)


def levels(rng, n_rows, n_out, n_in):
  """Returns the bytes of a rounded row, and of weights."""
  x = rng.integers(256, size=[n_rows, n_in]).astype(np.uint8)
  w = rng.integers(-127, 128, [n_out, n_in]).astype(np.int8)
  return x, w


def test_weights_lie_as_onednn_describes_its_order():
  # Blocks of 64 columns, with four numbers of each column side by side.
  n_out, n_in = 70, 9
  w = np.arange(n_out * n_in).reshape(n_out, n_in) % 251 - 125
  packed = onednn_matmul.pack(tf.constant(w, tf.int8)).numpy()
  assert len(packed) == 2 * 64 * 64
  wanted = np.zeros_like(packed)
  for n in range(n_out):
    for k in range(n_in):
      block, group = n // 64, k // 4
      wanted[block * 64 * 64 + group * 64 * 4 + n % 64 * 4 + k % 4] = w[n, k]
  np.testing.assert_array_equal(packed, wanted)


@needs_int8
@pytest.mark.parametrize('n_rows', [2, 8, 130])
@pytest.mark.parametrize('n_out, n_in', [(16, 20), (65, 128), (300, 3072)])
def test_a_product_is_exact(n_out, n_in, n_rows):
  assert onednn_matmul.reads_packed(n_rows, n_out, n_in)
  x, w = levels(np.random.default_rng(0), n_rows, n_out, n_in)
  x[0], w[0] = 255, -127  # The largest sum.
  found = jit.compiled(onednn_matmul.int8_matmul)(
    tf.constant(x), onednn_matmul.pack(tf.constant(w)), n_out
  )
  wanted = x.astype(np.int32) @ w.astype(np.int32).T
  np.testing.assert_array_equal(found, wanted)


ORDER, MATMUL = onednn_matmul.pack, onednn_matmul.int8_matmul


def in_another_order(w):
  return tf.reverse(ORDER(w), [0])


def saturating(x, packed, n_out):
  return tf.clip_by_value(MATMUL(x, packed, n_out), -(2**15), 2**15 - 1)


@needs_int8
@pytest.mark.parametrize(
  'name, other',
  [
    ('pack', in_another_order),
    ('int8_matmul', saturating),
  ],
)
def test_what_differs_here_is_found_out(name, other, monkeypatch):
  monkeypatch.setattr(onednn_matmul, name, other)
  assert not onednn_matmul.reads_packed.__wrapped__(3, 64, 64)


@pytest.mark.parametrize(
  'spoil',
  [
    lambda patch: patch.setattr(onednn_matmul, '_NAME', 'no such product'),
    lambda patch: patch.setenv('TF_ENABLE_ONEDNN_OPTS', '0'),
  ],
  ids=['not known', 'switched off'],
)
def test_without_onednn_nothing_is_packed(spoil, monkeypatch):
  spoil(monkeypatch)
  assert not onednn_matmul.available.__wrapped__()
  monkeypatch.setattr(onednn_matmul, 'available', lambda: False)
  assert not onednn_matmul.reads_packed.__wrapped__(3, 64, 64)
  p = quantize.quantize(Linear(tf.Variable(tf.ones([4, 4]))), 'int8')
  assert p.w.packed == ()


def custom_calls(f):
  """Counts the custom calls of a traced function."""
  return sum(op.type == 'XlaCustomCallV2' for op in f.graph.get_operations())


def traced(p, n_rows, mode='xla', device=None):
  f = jit.compiled(lambda x: layers.linear(x, p), mode)
  if device:
    f = jit.retraced(f, device)
  return f.get_concrete_function(tf.TensorSpec([n_rows, 64]))


@needs_int8
@pytest.mark.parametrize('weights', ['int8', 'w8a8'])
def test_which_products_are_left_to_onednn(weights):
  w = Linear(tf.Variable(tf.ones([64, 96])))
  p = quantize.quantize(w, weights)
  for mode in COMPILE_MODES:
    wanted = [0, 1, 1] if mode == 'xla' else [0, 0, 0]
    found = [custom_calls(traced(p, n, mode)) for n in (1, 2, 40)]
    assert found == wanted, mode
  assert custom_calls(traced(p, None)) == 0
  for device in backend.DEVICES:
    assert custom_calls(traced(p, 8, device=device)) == 0
  of_floats = quantize.quantize(w, 'float32')
  assert custom_calls(traced(of_floats, 8)) == 0


@needs_int8
@pytest.mark.parametrize('weights', STORED_WEIGHTS)
def test_nothing_of_it_is_exported(weights):
  config = GPTConfig(50, 16, 32, 1, 2, drop_rate=0.0)
  exported = quantize.quantize(GPT(config).params, weights, exported=True)
  project = exported.blocks[0].mlp.c_proj.w
  assert project.packed == project.sums == ()
  f = workloads.prefill(exported, config, 2, 8).f
  graph = f.get_concrete_function(tf.TensorSpec([2, 8], tf.int32)).graph
  assert not [n for n in graph.get_operations() if 'Custom' in n.type]
