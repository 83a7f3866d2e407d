"""Attention kernels that skip hidden keys and keep less memory."""

import pytest
import tensorflow as tf

from minigpt.compiler import jit, remat
from minigpt.config import GPTConfig
from minigpt.kernels import attention as kernels
from minigpt.model.attention import attention, dot_product_attention
from minigpt.model.params import init_params
from minigpt.model.transformer import gpt


def n_operations(f, spec, *kinds):
  graph = jit.compiled(f, 'graph').get_concrete_function(spec).graph
  types = [op.type for op in graph.get_operations()]
  return sum(types.count(kind) for kind in kinds)


def test_an_unobserved_model_attends_in_blocks_of_queries():
  """Half of all scores are hidden, so about half are computed."""
  n = 4 * kernels.N_QUERIES
  config = GPTConfig(7, n, 4, n_heads=1, n_layers=1)
  p = init_params(config)

  def n_scores(**how):
    run = jit.compiled(lambda x: gpt(x, p, config, **how), 'graph')
    graph = run.get_concrete_function(tf.TensorSpec([1, n], tf.int32)).graph
    shapes = [
      op.outputs[0].shape
      for op in graph.get_operations()
      if op.outputs and op.type == 'Softmax'
    ]
    return sum(shape.num_elements() for shape in shapes)

  assert n_scores() == n * n * 5 / 8
  assert n_scores(hook=lambda name, x: x) == n * n


@pytest.fixture
def p():
  config = GPTConfig(7, 4, 6, n_heads=2, n_layers=1)
  return init_params(config).blocks[0].attn


def test_training_keeps_no_weights_of_attention(p, monkeypatch):
  """The gradient recomputes q k' and the exponentials."""

  def n_exponentials(attend):
    def f(q):
      with tf.GradientTape() as tape:
        tape.watch(q)
        loss = tf.reduce_sum(attend(q))
      return tape.gradient(loss, q)

    return n_operations(f, tf.TensorSpec([2, 4, 6]), 'Softmax', 'Exp')

  def one_head(q):
    return dot_product_attention(q, q, q)

  # So few weights are kept.
  monkeypatch.setattr(remat, 'FREE_BYTES', 4 * 2 * 4 * 4)
  assert n_exponentials(one_head) == 1
  monkeypatch.setattr(remat, 'FREE_BYTES', 4 * 2 * 4 * 4 - 1)
  assert n_exponentials(one_head) == 2
  assert n_exponentials(lambda q: attention(q, p, 2)) == 2
