"""The same numbers whatever compiles them."""

import math
import re

import numpy as np
import pytest
import tensorflow as tf

from minigpt.compiler import backend, barriers, jit, subgraphs
from minigpt.config import COMPILE_MODES, WEIGHTS
from minigpt.errors import UsageError
from minigpt.kernels import quantize
from minigpt.kernels.attention import attention_weights
from minigpt.kernels.fused_linear_cross_entropy import chunked_loss
from minigpt.model import layers
from minigpt.model.kv_cache import update_slots
from minigpt.model.params import LayerNorm, Linear


@pytest.mark.parametrize('mode', COMPILE_MODES)
def test_the_mode_is_that_of_the_function_being_traced(mode):
  seen = []

  def f(x):
    seen.append(backend.mode())
    return tf.while_loop(
      lambda i: i < 1, lambda i: (seen.append(backend.mode()), i + 1)[1:], [x]
    )

  jit.compiled(f, mode)(tf.constant(0))
  assert set(seen) == {mode}
  assert backend.mode() == 'xla'


def test_an_unknown_mode_is_named():
  with pytest.raises(UsageError, match="unknown compile 'xls': did you mean"):
    jit.compiled(lambda: None, 'xls')()


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
  assert 'TensorScatterUpdate' not in kinds  # It copies the cache each time.
  # So would the first write if it did not wait for the keys of its own turn.
  (first,) = (op for op in step.graph.get_operations() if op.type == 'GatherNd')
  assert [op.name for op in first.control_inputs] == ['new']


def test_a_transposed_product_is_the_same_in_each_mode():
  rng = np.random.default_rng(0)
  x, w = (
    rng.standard_normal(shape).astype(np.float32)
    for shape in ([2, 3, 8], [5, 8])
  )

  def product(x):
    return layers.matmul(x, tf.constant(w), transpose_w=True)

  for mode in COMPILE_MODES:
    found = jit.compiled(product, mode)(tf.constant(x))
    np.testing.assert_allclose(found, x @ w.T, rtol=1e-5, atol=1e-6)


def test_looking_up_rows_leaves_later_reads_of_a_variable_free():
  table = tf.Variable(tf.zeros([5, 2]))
  look_up = jit.compiled(lambda i: layers.embedding_lookup(table, i), 'graph')
  graph = look_up.get_concrete_function(tf.TensorSpec([None], tf.int32)).graph
  # ResourceGather makes the variable copy itself whenever it is read.
  assert 'ResourceGather' not in {op.type for op in graph.get_operations()}


def test_auto_is_hybrid_for_text_where_there_are_units_for_bfloat16(tmp_path):
  def chosen(flags, dtype, trains=False, mode='auto'):
    cpu = tmp_path / 'cpuinfo'
    cpu.write_text(f'flags : fpu {flags} sse\n')
    return backend.resolve_mode(mode, dtype, trains, cpu)

  for units in ('amx_bf16', 'avx512_bf16'):
    assert chosen(f'avx2 {units} amx_tile', 'bfloat16') == 'hybrid'
    assert chosen(f'avx2 {units}', 'bfloat16', mode='graph') == 'graph'
    assert chosen(units, 'bfloat16', trains=True) == 'xla'
    assert chosen(units, 'float32') == 'xla'
  assert chosen('avx2 avx512f', 'bfloat16') == 'xla'
  none = tmp_path / 'none'
  assert backend.resolve_mode('auto', 'bfloat16', cpu=none) == 'xla'


PIECES = {
  'gelu': lambda x, g, key: layers.gelu(x),
  'layernorm': lambda x, g, key: layers.layernorm(x, LayerNorm(g, g)),
  'layernorm without a bias': lambda x, g, key: layers.layernorm(
    x, LayerNorm(g)
  ),
  'softmax': lambda x, g, key: layers.softmax(x),
  'attention weights': lambda x, g, key: attention_weights(x, scale=0.5),
  'weights under a mask': lambda x, g, key: attention_weights(
    x, tf.range(8) < 5, scale=0.5
  ),
  'dropout': lambda x, g, key: layers.dropout(x, 0.5, key),
  'cross entropy': lambda x, g, key: layers.cross_entropy(x, key),
}


@pytest.mark.parametrize('name', PIECES)
def test_a_piece_and_its_gradient_are_the_same_in_each_mode(name):
  def value_and_gradients(x, g, key):
    with tf.GradientTape() as tape:
      tape.watch([x, g])
      y = PIECES[name](x, g, key)
      total = tf.reduce_sum(y * tf.range(1.0, 1.0 + y.shape[-1]))
    return y, *tape.gradient(total, [x, g], unconnected_gradients='zero')

  rng = np.random.default_rng(0)
  given = [
    tf.constant(rng.standard_normal(shape), tf.float32) for shape in ([2, 8], 8)
  ]
  given.append(tf.constant([3, 5]))
  expected = value_and_gradients(*given)
  assert np.abs(expected[1]).max() > 0
  for mode in COMPILE_MODES:
    found = jit.compiled(value_and_gradients, mode)(*given)
    for one, other in zip(found, expected, strict=True):
      np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize('mode', COMPILE_MODES)
def test_gelu_rounds_once(mode):
  x = tf.cast(tf.linspace(-4.0, 4.0, 257), tf.bfloat16)
  exact = tf.cast(layers.gelu(tf.cast(x, tf.float32)), tf.bfloat16)
  found = jit.compiled(layers.gelu, mode)(x)
  a, b = (np.array(tf.cast(y, tf.float32)) for y in (found, exact))
  np.testing.assert_allclose(a, b, rtol=2**-7)  # A bfloat16 apart at most.


def test_a_piece_is_a_program_of_its_own_in_hybrid_mode_alone():
  kinds = {}
  for mode in ('hybrid', 'graph'):
    step = jit.compiled(layers.gelu, mode)
    graph = step.get_concrete_function(tf.TensorSpec([3])).graph
    kinds[mode] = {op.type for op in graph.get_operations()}
  assert 'Tanh' not in kinds['hybrid']
  assert 'Tanh' in kinds['graph']


def test_a_piece_returns_its_result_alone_where_tapes_look_on():
  """As within a custom gradient: its intermediates would go to memory."""

  def loss(scores):
    return tf.reduce_sum(layers.gelu(scores))

  def gradients(x, w):
    with tf.GradientTape() as tape:
      tape.watch([x, w])
      total = chunked_loss(tf.matmul, loss, 2, x, w)
    return tape.gradient(total, [x, w])

  step = jit.compiled(gradients, 'hybrid')
  made = step.get_concrete_function(tf.ones([4, 3]), tf.ones([3, 5]))
  calls = [
    op
    for f in made.graph._functions.values()
    for op in getattr(f, 'graph', f).get_operations()
    if 'PartitionedCall' in op.type
  ]
  # There and back, and added to the sum.
  assert [len(op.outputs) for op in calls] == [1, 1, 1]


@pytest.mark.parametrize('mode', COMPILE_MODES)
def test_layers_alike_are_traced_once_under_xla(mode):
  traced = []

  def layer(x, shift, w, *, scale):
    traced.append(backend.mode())
    y = tf.transpose(tf.tanh(scale * x @ w))
    return y if shift is None else y + shift

  def gradients(x, ws, layer=layer):
    with tf.GradientTape() as tape:
      tape.watch([x, ws])
      y = x
      for w, shift in zip(ws, [None, None, None, x, x], strict=True):
        y = layer(y, shift, w, scale=2.0)
    return y, *tape.gradient(y, [x, *ws])

  rng = np.random.default_rng(0)
  x, *ws = (tf.constant(rng.standard_normal([4, 4])) for _ in range(6))
  expected = gradients(x, ws)
  traced.clear()
  step = jit.compiled(
    lambda x, ws: gradients(x, ws, subgraphs.traced_once(layer)), mode
  )
  graph = step.get_concrete_function(x, ws).graph
  for one, other in zip(step(x, ws), expected, strict=True):
    np.testing.assert_allclose(one, other)
  # Without a shift and with one, there and back.
  assert traced == [mode] * (4 if mode == 'xla' else 5)
  if mode == 'xla':
    calls = [op for op in graph.get_operations() if 'Partitioned' in op.type]
    # What else a layer returned, such as the axes that its gradient needs,
    # would make XLA take all that it is given for constant, and compile anew
    # for each value.
    assert [len(op.outputs) for op in calls] == [1] * 5 + [3] * 2 + [2] * 3


@pytest.mark.parametrize('mode', COMPILE_MODES)
def test_what_has_no_gradient_is_traced_once_where_xla_compiles_it(mode):
  traced = []

  @subgraphs.traced_once_no_grad
  def halve(x, *, by):
    traced.append(by)
    return x / by

  xs = [tf.constant([1.0, 3.0]), tf.constant([5.0, 7.0]), tf.constant([9.0])]
  found = jit.compiled(lambda xs: [halve(x, by=2.0) for x in xs], mode)(xs)
  assert [y.numpy().tolist() for y in found] == [[0.5, 1.5], [2.5, 3.5], [4.5]]
  assert traced == [2.0] * (3 if mode == 'graph' else 2)  # One for each shape.


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


def test_a_loop_reads_the_weights_in_few_bits():
  w = quantize.int8(tf.random.stateless_normal([256, 128], [0, 0]))
  back = quantize.int8(tf.random.stateless_normal([128, 256], [0, 1]))

  @jit.compiled
  def loop(x):
    def turn(i, x):
      return i + 1, layers.gelu(
        layers.matmul(layers.gelu(layers.matmul(x, w)), back)
      )

    return tf.while_loop(lambda i, _: i < 9, turn, (0, x))[1]

  hlo = loop.experimental_get_compiler_ir(tf.ones([1, 128]))('optimized_hlo')
  products = re.findall(r'convert_dot_fusion\S* = \S+ fusion\(([^)]*)\)', hlo)
  # Each casts as it multiplies, a vector that is there and not made anew.
  assert [len(given.split(', ')) for given in products] == [2, 2]


def test_a_loop_does_not_round_its_bfloat16_weights_anew():
  w = quantize.quantize(Linear(tf.Variable(tf.ones([128, 128]))), 'bfloat16')

  @jit.compiled
  def loop(x):
    turn = lambda i, x: (i + 1, layers.gelu(layers.linear(x, w)))  # noqa: E731
    return tf.while_loop(lambda i, _: i < 9, turn, (0, x))[1]

  hlo = loop.experimental_get_compiler_ir(tf.ones([1, 128]))('optimized_hlo')
  assert 'convert_dot_fusion' in hlo
  assert not re.search(r'= bf16\[128,128\]\S* convert\(', hlo)


def test_heads_are_put_together_before_the_product_that_reads_them():
  """Within its loop each number would cost a division of indices."""
  w = quantize.int8(tf.random.stateless_normal([128, 128], [0, 0]))

  @jit.compiled
  def loop(x):
    def turn(i, x):
      heads = tf.reshape(x, [1, 4, 1, 32])
      return i + 1, layers.matmul(tf.reshape(2 * tf.tanh(heads), [1, 128]), w)

    return tf.while_loop(lambda i, _: i < 9, turn, (0, x))[1]

  hlo = loop.experimental_get_compiler_ir(tf.ones([1, 128]))('optimized_hlo')
  name = re.search(r'convert_dot_fusion\S* = .*calls=(%\S+)[,\n]', hlo)[1]
  given = re.search(re.escape(name) + r' \((.*)\) ->', hlo)[1]
  # Two dimensions at most, of one row.
  assert sorted(re.findall(r'\[([\d,]*)\]', given)) in (
    ['1,128', '128,128'],
    ['128', '128,128'],
  )


def test_a_gradient_is_settled_once_for_all_who_use_it():
  def n_divisions(settle):
    @jit.compiled
    def both_sums(x):
      with tf.GradientTape() as tape:
        tape.watch(x)
        loss = tf.reduce_sum(settle(x) ** 3)
      grad = tape.gradient(loss, x)
      return [tf.reduce_max(grad, axis) for axis in (0, 1)]

    x = tf.ones([64, 64])
    np.testing.assert_allclose(both_sums(x), np.full([2, 64], 3))
    hlo = both_sums.experimental_get_compiler_ir(x)('optimized_hlo')
    return hlo.count(' divide(')

  assert [
    n_divisions(f) for f in (tf.identity, barriers.materialize_gradient)
  ] == [0, 1]


@pytest.mark.parametrize('mode', ['hybrid', 'graph'])
def test_without_xla_what_comes_after_waits(mode):
  def f(x, y):
    return 2.0 * barriers.depend_on(x, y + 1.0)

  graph = jit.compiled(f, mode).get_concrete_function(*[tf.ones([2])] * 2).graph
  [late] = [op for op in graph.get_operations() if op.control_inputs]
  assert [op.type for op in late.control_inputs] == ['AddV2']
