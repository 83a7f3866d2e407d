"""What is computed again for its gradient gives the same gradient."""

import dataclasses

import numpy as np
import pytest
import tensorflow as tf

from minigpt.compiler import jit, remat
from minigpt.config import COMPILE_MODES
from minigpt.data.sequence_packing import PackedBatch
from minigpt.kernels.mlp import memory_efficient_mlp
from minigpt.model import lora
from minigpt.model.transformer import GPT, mlp
from minigpt.training.step import TrainState, loss_and_grads

RNG = tf.constant([5, 6])


def packed(tokens) -> PackedBatch:
  n_rows, n = tokens.shape
  segments = tf.repeat([[1] * 5 + [2] * (n - 6)], n_rows, axis=0)
  return PackedBatch(tokens, tf.ones([n_rows, n - 1]) / 7, segments)


def gradients(state, batch, config, dtype='float32'):
  loss, grads = loss_and_grads(
    batch, state.params, config, dtype, RNG, state.whole
  )
  return [loss, *tf.nest.flatten(grads)]


@pytest.mark.parametrize('dtype', ['float32', 'bfloat16'])
@pytest.mark.parametrize('adapted', [False, True])
@pytest.mark.parametrize('rows', [tf.identity, packed])
def test_gradients_are_those_of_the_plain_block(
  model, tokens, dtype, adapted, rows
):
  adapters = lora.init_adapters(model.config, 2) if adapted else ()
  for block in adapters:
    block.attn.c_proj.b.assign(tf.ones_like(block.attn.c_proj.b))
  state, batch = TrainState(model, adapters), rows(tokens)
  config = dataclasses.replace(model.config, drop_rate=0.2)
  plain = gradients(state, batch, config, dtype)
  again = gradients(
    state, batch, dataclasses.replace(config, remat=True), dtype
  )
  assert any(np.abs(g).max() > 1e-3 for g in plain[1:])
  for a, b in zip(plain, again, strict=True):
    np.testing.assert_array_equal(a, b)


def n_products(state, batch, config) -> int:
  """In one block, compiled."""

  @tf.function(jit_compile=True, autograph=False)
  def step(batch):
    return gradients(state, batch, config)

  hlo = step.experimental_get_compiler_ir(batch)(stage='optimized_hlo')
  return hlo.count(' dot(') + hlo.count('custom_call_target="__onednn')


def test_xla_does_not_undo_it(model, tokens):
  """Common subexpressions would be merged, and nothing saved."""
  config = dataclasses.replace(model.config, n_layers=1)
  state = TrainState(GPT(config))
  plain = n_products(state, tokens, config)
  again = n_products(state, tokens, dataclasses.replace(config, remat=True))
  # Queries, keys and values; scores; sums of values; the first product of
  # the MLP: each once more.
  assert again >= plain + 3


def mlp_gradients(f, p, mode='graph'):
  """`f` as a program of x that returns its output and all gradients."""

  def run(x):
    with tf.GradientTape() as tape:
      tape.watch(x)
      y = f(x, p)
      loss = tf.reduce_sum(tf.square(y))
    return [y, *tape.gradient(loss, [x, *tf.nest.flatten(p)])]

  return jit.compiled(run, mode)


@pytest.mark.parametrize('mode', COMPILE_MODES)
def test_the_thrifty_mlp_is_the_plain_one(nothing_is_kept, model, mode):
  p = model.params.blocks[0].mlp
  x = tf.random.stateless_normal([2, 8, model.config.emb_dim], [1, 2])
  plain, thrifty = (
    mlp_gradients(f, p, mode)(x) for f in (mlp, memory_efficient_mlp)
  )
  assert len(plain) == 6  # Output, input, two weights, two biases.
  for a, b in zip(plain, thrifty, strict=True):
    np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6)


def test_the_thrifty_mlp_keeps_no_output_of_gelu(model, monkeypatch):
  p = model.params.blocks[0].mlp
  x = tf.ones([2, 8, model.config.emb_dim])

  def n_tanh(f):
    graph = mlp_gradients(f, p).get_concrete_function(x).graph
    return sum(op.type == 'Tanh' for op in graph.get_operations())

  assert (n_tanh(mlp), n_tanh(memory_efficient_mlp)) == (
    1,
    1,
  )  # Few units are kept.
  monkeypatch.setattr(remat, 'FREE_BYTES', 0)
  assert n_tanh(memory_efficient_mlp) == 2
