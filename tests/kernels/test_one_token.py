"""A token a row by TensorFlow's kernels."""

import collections

import numpy as np
import tensorflow as tf

from minigpt.compiler import jit
from minigpt.config import GPTConfig
from minigpt.kernels import matmul
from minigpt.model import kv_cache, layers
from minigpt.model.params import init_params


def config(n_layers):
  return GPTConfig(
    vocab_size=11,
    context_length=8,
    emb_dim=8,
    n_heads=2,
    n_layers=n_layers,
    init_std=0.3,
  )


def step(n_layers):
  """Returns a step of rows and slots of any number, as an export has it."""
  c = config(n_layers)
  p = init_params(c)

  def compute(tokens, position, *caches):
    pairs = zip(caches[::2], caches[1::2], strict=True)
    caches = tuple(kv_cache.KVCache(*pair) for pair in pairs)
    return kv_cache.cached_gpt(tokens, p, c, caches, position)

  cache = tf.TensorSpec([None, c.n_heads, None, c.head_dim])
  numbers = tf.TensorSpec([None, 1], tf.int32), tf.TensorSpec([None], tf.int32)
  program = jit.compiled(compute, 'graph', inference=True)
  return program.get_concrete_function(*numbers, *[cache] * 2 * n_layers)


def test_a_layer_takes_few_operations_and_none_that_depends_on_sizes():
  kinds = [
    collections.Counter(op.type for op in step(n).graph.get_operations())
    for n in (1, 2)
  ]
  layer = kinds[1] - kinds[0]
  costless = {'Placeholder', 'Const', 'Identity', 'NoOp'}
  assert sum(n for kind, n in layer.items() if kind not in costless) < 80
  # The two caches get their shapes back.
  assert layer['Shape'] == 2
  assert not {'StridedSlice', 'Pack', 'Range', 'SelectV2'} & set(layer)
  # oneDNN's take longer to start.
  assert not {'Softmax', 'BatchMatMulV2', 'Transpose'} & set(layer)


def test_a_row_is_the_same_among_others():
  rng = np.random.default_rng(0)
  shape = [3, 2, 6, 4]
  caches = [rng.standard_normal(shape).astype(np.float32) for _ in range(2)]
  tokens, position = np.array([[1], [2], [3]]), np.array([5, 0, 2])
  compute = step(1)

  def run(rows):
    parts = (np.int32(tokens[rows]), np.int32(position[rows]))
    caches_of_rows = (tf.constant(c[rows]) for c in caches)
    return compute(*map(tf.constant, parts), *caches_of_rows)[0]

  together = run([0, 1, 2])
  for i in range(3):
    np.testing.assert_allclose(run([i])[0], together[i], rtol=1e-5, atol=1e-6)


def test_a_small_table_is_not_turned_around(monkeypatch):
  table = tf.ones([11, 8])

  def kinds():
    made = jit.compiled(layers.embedding_logits, 'graph').get_concrete_function(
      tf.TensorSpec([None, 8]), table
    )
    return {op.type for op in made.graph.get_operations()}

  assert 'Transpose' not in kinds()
  monkeypatch.setattr(matmul, '_MOST_SMALL', 0)
  assert 'Transpose' in kinds()
