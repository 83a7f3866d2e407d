"""XLA does not undo rematerialization: docs/design/compilation.md."""

import dataclasses

import tensorflow as tf

from minigpt.compiler import jit
from minigpt.model.transformer import GPT
from minigpt.training.state import TrainState
from minigpt.training.step import loss_and_grads

RNG = tf.constant([5, 6])


def n_matmuls(state, batch, config) -> int:
  """Counts the matmuls of one block, compiled."""

  @jit.compiled
  def step(batch):
    loss, grads = loss_and_grads(
      batch, state.params, config, 'float32', RNG, state.full_params
    )
    return [loss, *tf.nest.flatten(grads)]

  hlo = step.experimental_get_compiler_ir(batch)(stage='optimized_hlo')
  return hlo.count(' dot(') + hlo.count('custom_call_target="__onednn')


def test_xla_does_not_undo_it(model, tokens):
  """Merging common subexpressions would undo rematerialization."""
  config = dataclasses.replace(model.config, n_layers=1)
  state = TrainState(GPT(config))
  plain = n_matmuls(state, tokens, config)
  again = n_matmuls(state, tokens, dataclasses.replace(config, remat=True))
  # Queries, keys and values; scores; sums of values; the first matmul of
  # the MLP: each once more.
  assert again >= plain + 3
