"""Matmuls of exports in bfloat16."""

import numpy as np
import pytest
import tensorflow as tf

from minigpt.compiler import jit
from minigpt.kernels import prepacked_matmul
from minigpt.kernels.quantize import quantize
from minigpt.model import layers, transformer
from minigpt.model.params import MLP, Linear

pytestmark = pytest.mark.skipif(
  not prepacked_matmul.available(),
  reason="this TensorFlow lacks oneDNN's kernels",
)
KERNEL = '_MklNativeFusedMatMul'


def normal(*shape):
  rng = np.random.default_rng(len(shape))
  return tf.constant(rng.standard_normal(shape), tf.float32)


def served(tree):
  return quantize(tree, 'bfloat16', exported=True, compiled=False)


def in_bfloat16(f):
  return jit.compiled(f, 'graph-onednn', inference=True)


def logits_of(table):
  table = served(table)
  return in_bfloat16(lambda x: layers.embedding_logits(x, table))


def packing(f, shape):
  """Returns for each matmul of `f` whether it keeps packed weights."""
  made = f.get_concrete_function(tf.TensorSpec(shape))
  return [
    op.get_attr('is_filter_const')
    for op in made.graph.get_operations()
    if op.type == KERNEL
  ]


def test_a_step_of_one_token_packs_and_a_prompt_does_not():
  mlp = served(MLP(Linear(normal(8, 32), normal(32)), Linear(normal(32, 8))))
  f = in_bfloat16(lambda x: transformer.mlp(x, mlp))
  assert packing(f, [None, 1, 8]) == [True, True]
  assert packing(f, [None, None, 8]) == [False, False]
  assert packing(logits_of(normal(20, 8)), [None, 8]) == [True]


def test_other_weights_and_other_backends_are_left_alone():
  layer = Linear(tf.Variable(normal(8, 4)))
  x = tf.TensorSpec([2, 1, 8])
  for weights, mode in ((layer, 'graph-onednn'), (served(layer), 'graph')):
    f = jit.compiled(lambda x, p=weights: layers.linear(x, p), mode)
    made = f.get_concrete_function(x).graph.get_operations()
    assert KERNEL not in {op.type for op in made}


def test_large_logits_keep_their_differences():
  """Near 200, adjacent numbers of bfloat16 differ by 1."""
  x, table = normal(2, 24), 0.1 * normal(150, 24)
  # All logits of a row share a large part; the weights are exact in bfloat16.
  table = tf.cast(
    tf.cast(tf.concat([table, 10 * tf.ones([150, 1])], 1), tf.bfloat16),
    tf.float32,
  )
  x = tf.cast(
    tf.cast(tf.concat([x, 20 * tf.ones([2, 1])], 1), tf.bfloat16), tf.float32
  )
  wanted = x @ tf.transpose(table)
  assert np.min(wanted) > 195
  found = logits_of(table)(x)
  np.testing.assert_allclose(found, wanted, rtol=0, atol=0.03)


def test_a_row_does_not_depend_on_the_others():
  logits, x = logits_of(normal(150, 24)), normal(9, 24)
  together = logits(x)
  for n in (0, 1, 2, 5):
    np.testing.assert_array_equal(logits(x[:n]), together[:n])
