"""The MLP that stores its hidden units once."""

import numpy as np
import pytest
import tensorflow as tf

from minigpt.compiler import jit, remat
from minigpt.config import COMPILE_MODES
from minigpt.model.transformer import mlp


def mlp_gradients(p, mode):
  """Returns a program for the output of the MLP and all gradients."""

  def run(x):
    with tf.GradientTape() as tape:
      tape.watch(x)
      y = mlp(x, p)
      loss = tf.reduce_sum(tf.square(y))
    return [y, *tape.gradient(loss, [x, *tf.nest.flatten(p)])]

  return run if mode == 'eager' else jit.compiled(run, mode)


@pytest.mark.parametrize('mode', COMPILE_MODES)
def test_it_has_the_gradients_of_the_definition(nothing_is_kept, model, mode):
  p = model.params.blocks[0].mlp
  x = tf.random.stateless_normal([2, 8, model.config.emb_dim], [1, 2])
  plain, kernel = (mlp_gradients(p, m)(x) for m in ('eager', mode))
  assert len(plain) == 6  # Output, input, two weights, two biases.
  for a, b in zip(plain, kernel, strict=True):
    np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6)


def test_it_keeps_no_output_of_gelu(model, monkeypatch):
  p = model.params.blocks[0].mlp
  x = tf.ones([2, 8, model.config.emb_dim])

  def n_tanh():
    graph = mlp_gradients(p, 'graph').get_concrete_function(x).graph
    return sum(op.type == 'Tanh' for op in graph.get_operations())

  assert n_tanh() == 1  # A small hidden layer is kept twice.
  monkeypatch.setattr(remat, 'FREE_BYTES', 0)
  assert n_tanh() == 2


def test_a_program_for_inference_computes_everything_once(
  nothing_is_kept, model
):
  p = model.params.blocks[0].mlp

  def gradient(x):
    with tf.GradientTape() as tape:
      tape.watch(x)
      y = mlp(x, p)
    return tape.gradient(y, x)

  spec = tf.TensorSpec([2, 8, model.config.emb_dim])
  # A program for inference has a kernel of its own for GELU.
  for inference, kind, n in ((False, 'Tanh', 2), (True, 'Sigmoid', 1)):
    f = jit.compiled(gradient, 'graph', inference=inference)
    types = [
      op.type for op in f.get_concrete_function(spec).graph.get_operations()
    ]
    assert types.count(kind) == n
