"""Rematerialized blocks have the same gradient."""

import dataclasses

import numpy as np
import pytest
import tensorflow as tf

from minigpt.compiler import jit
from minigpt.data.sequence_packing import PackedBatch
from minigpt.model import lora
from minigpt.training.state import TrainState
from minigpt.training.step import loss_and_grads

RNG = tf.constant([5, 6])


def packed(tokens) -> PackedBatch:
  n_rows, n = tokens.shape
  segments = tf.repeat([[1] * 5 + [2] * (n - 6)], n_rows, axis=0)
  return PackedBatch(tokens, tf.ones([n_rows, n - 1]) / 7, segments)


def step(state, config, dtype):
  """Returns a program for the loss of a batch and its gradients."""

  def gradients(batch):
    loss, grads = loss_and_grads(
      batch, state.params, config, dtype, RNG, state.full_params
    )
    return [loss, *tf.nest.flatten(grads)]

  return jit.compiled(gradients, 'graph')


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
  plain, again = (
    step(state, dataclasses.replace(config, remat=remat), dtype)(batch)
    for remat in (False, True)
  )
  assert any(np.abs(g).max() > 1e-3 for g in plain[1:])
  allowed = 1e-5 if dtype == 'float32' else 3e-2
  for a, b in zip(plain, again, strict=True):
    a, b = (tf.cast(x, tf.float32) for x in (a, b))
    np.testing.assert_allclose(a, b, rtol=0, atol=allowed * np.abs(a).max())
