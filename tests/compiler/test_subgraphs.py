"""Subgraphs that are traced once, or compiled separately."""

import numpy as np
import pytest
import tensorflow as tf

from minigpt.compiler import backend, jit, subgraphs
from minigpt.config import COMPILE_MODES
from minigpt.kernels.fused_linear_cross_entropy import chunked_loss
from minigpt.model import layers


def test_a_piece_is_a_program_of_its_own_in_hybrid_mode_alone():
  kinds = {}
  for mode in ('hybrid', 'graph'):
    step = jit.compiled(layers.gelu, mode)
    graph = step.get_concrete_function(tf.TensorSpec([3])).graph
    kinds[mode] = {op.type for op in graph.get_operations()}
  assert 'Tanh' not in kinds['hybrid']
  assert 'Tanh' in kinds['graph']


def test_a_piece_returns_its_result_alone_where_tapes_look_on():
  """Inside a custom gradient, tapes would make it return intermediates."""

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
  # Forward, backward, and the addition to the sum.
  assert [len(op.outputs) for op in calls] == [1, 1, 1]


@pytest.mark.parametrize('mode', COMPILE_MODES)
def test_layers_alike_are_traced_once_under_xla(mode):
  traced = []

  def layer(x, shift, w, *, scale):
    traced.append(backend.current().name)
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
  # With and without a shift, forward and backward.
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
