"""Matmuls with prepacked weights."""

import re

import numpy as np
import pytest
import tensorflow as tf

from minigpt import tokenizers
from minigpt.compiler import backend, jit
from minigpt.config import GPTConfig
from minigpt.errors import UsageError
from minigpt.generation.generator import Generator
from minigpt.kernels import prepacked_matmul, quantize
from minigpt.kernels.quantize import Quantized
from minigpt.model import layers, params, transformer
from minigpt.model.params import Linear
from minigpt.model.transformer import GPT
from minigpt.profiling import workloads

needs_kernel = pytest.mark.skipif(
  not prepacked_matmul.available(),
  reason="this TensorFlow lacks oneDNN's kernels",
)
KERNEL = '_MklNativeFusedMatMul'


@pytest.fixture(scope='module')
def config():
  return GPTConfig(50, 32, 16, 2, 2, drop_rate=0.0, init_std=0.3)


def kinds(f):
  """Returns the types of all operations, also of called functions."""
  graph = f.graph.as_graph_def()
  nodes = [
    *graph.node,
    *(n for g in graph.library.function for n in g.node_def),
  ]
  return {node.op for node in nodes}


@needs_kernel
@pytest.mark.parametrize('n_rows', [1, 3, 40, None])
@pytest.mark.parametrize('dtype', ['float32', 'bfloat16'])
@pytest.mark.parametrize('transpose_w', [False, True])
@pytest.mark.parametrize('biased', [False, True])
@pytest.mark.parametrize('then_gelu', [False, True])
def test_a_packed_product_is_the_product(
  then_gelu, biased, transpose_w, dtype, n_rows
):
  rng = np.random.default_rng(0)
  x, w, b = (
    tf.cast(rng.standard_normal(shape), dtype)
    for shape in ([n_rows or 5, 2, 24], [24, 10], [10])
  )
  bias = b if biased else params.ABSENT
  layer = Linear(tf.Variable(w), bias)
  if transpose_w:
    layer = Linear(Quantized(tf.Variable(tf.transpose(w))), bias)
  # An MLP that ends with GELU fuses it.
  identity = Linear(tf.eye(10, dtype=dtype))

  def compute(x):
    if then_gelu:
      return transformer.mlp(x, params.MLP(layer, identity))
    return layers.linear(x, layer)

  f = jit.compiled(compute, 'hybrid', frozen=True)
  made = f.get_concrete_function(tf.TensorSpec([n_rows, 2, 24], dtype))
  assert KERNEL in kinds(made)
  x64, w64, b64 = (np.array(tf.cast(a, tf.float64)) for a in (x, w, b))
  wanted = x64 @ w64 + biased * b64
  if then_gelu:
    inner = np.sqrt(2 / np.pi) * (wanted + 0.044715 * wanted**3)
    wanted = 0.5 * wanted * (1 + np.tanh(inner))
  allowed = 1e-5 if dtype == 'float32' else 0.1
  for _ in range(2):  # First it packs, then reads the packed weights.
    found = made(x)
    assert found.dtype == dtype
    np.testing.assert_allclose(tf.cast(found, tf.float64), wanted, atol=allowed)


def test_only_weights_that_never_change_are_packed():
  layer = Linear(tf.Variable(tf.ones([4, 4])), tf.Variable(tf.ones([4])))
  few_bits = layer._replace(w=Quantized(tf.ones([4, 4], tf.int8), tf.ones([4])))
  x = tf.TensorSpec([2, 4])
  for mode, frozen, weights in (
    ('hybrid', False, layer),
    ('graph', True, layer),
    ('xla', True, layer),
    ('hybrid', True, few_bits),
  ):
    f = jit.compiled(lambda x, p=weights: layers.linear(x, p), mode, frozen)
    assert KERNEL not in kinds(f.get_concrete_function(x))
  assert not backend.current().frozen


def test_a_completer_follows_weights_that_train(config):
  p = GPT(config).params
  complete = Generator(
    p, config, tokenizers.build('char', 'abcdef'), compile='hybrid'
  )
  prompt = tf.zeros([1, 16], tf.int32), tf.constant([3]), tf.zeros([32, 0])
  assert KERNEL not in kinds(
    complete.programs.start.get_concrete_function(*prompt)
  )


@needs_kernel
def test_decoding_writes_the_same_tokens_with_packed_weights(config):
  p = quantize.quantize(GPT(config).params, 'float32')
  texts = []
  for mode in ('hybrid', 'xla'):
    call = workloads.decode(p, config, 3, 5, 20, mode)
    texts += [call().numpy().tolist(), call().numpy().tolist()]
    made = call.f.get_concrete_function(*call.arguments.values())
    assert (KERNEL in kinds(made)) == (mode == 'hybrid')
  assert texts[0] == texts[1] == texts[2] == texts[3]


def test_bfloat16_scores_as_float32_does(config):
  p = GPT(config).params
  scores = []
  for dtype, mode in (('float32', 'graph'), ('bfloat16', 'hybrid')):
    kept = quantize.quantize(p, 'float32', dtype)
    for leaf in tf.nest.flatten(kept):
      assert leaf.dtype.name == (dtype if leaf.shape.rank > 1 else 'float32')
    call = workloads.prefill(kept, config, 3, 9, mode)
    scores.append(np.array(tf.cast(call(), tf.float32)))
  exact, found = scores
  np.testing.assert_allclose(found, exact, atol=2e-2 * np.abs(exact).max())


@pytest.mark.parametrize(
  'weights, dtype, said',
  [
    ('int8', 'bfloat16', 'compute_dtype=bfloat16: weights=int8 compute in'),
    ('w8a8', 'bfloat16', 'compute_dtype=bfloat16: weights=w8a8 compute in'),
    ('float32', 'float61', "unknown compute_dtype 'float61'"),
    ('int9', 'float32', "unknown weights 'int9': did you mean 'int8'?"),
  ],
)
def test_what_weights_cannot_be_is_named(config, weights, dtype, said):
  with pytest.raises(UsageError, match=re.escape(said)):
    quantize.quantize(GPT(config).params, weights, dtype)


@pytest.mark.parametrize(
  'spoil',
  [
    lambda patch: patch.setattr(prepacked_matmul, '_KERNEL', '_NoSuchKernel'),
    lambda patch: patch.setenv('TF_ENABLE_ONEDNN_OPTS', '0'),
  ],
  ids=['not registered', 'switched off'],
)
def test_where_the_kernel_is_missing_nothing_is_packed(monkeypatch, spoil):
  w = tf.Variable(tf.ones([4, 4]))
  product = jit.compiled(
    lambda x: layers.linear(x, Linear(w)), 'hybrid', frozen=True
  )
  with monkeypatch.context() as patch:
    spoil(patch)
    prepacked_matmul.available.cache_clear()
    made = product.get_concrete_function(tf.TensorSpec([2, 4]))
  prepacked_matmul.available.cache_clear()
  assert not {KERNEL, '_NoSuchKernel'} & kinds(made)
  np.testing.assert_array_equal(made(tf.ones([2, 4])), np.full([2, 4], 4))
