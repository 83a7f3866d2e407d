"""Subgraphs are computed only once: docs/design/compilation.md."""

import dataclasses

import pytest
import tensorflow as tf

from minigpt.config import GPTConfig, TrainConfig
from minigpt.kernels import block
from minigpt.model import lora
from minigpt.model.transformer import GPT
from minigpt.training import step
from minigpt.training.step import TrainState

CONFIG = GPTConfig(17, 8, 16, 2, 2, drop_rate=0.0)
RECIPE = TrainConfig(batch_size=2, grad_accum=2)


def windows(k, a, b):
  return tf.zeros([k, a, b, 9], tf.int32)


@pytest.mark.parametrize(
  'dtype, n_batches, rank', [('bfloat16', 2, 0), ('float32', 1, 2)]
)
def test_layers_that_are_traced_once_are_not_computed_twice(
  dtype, n_batches, rank, monkeypatch
):
  config = dataclasses.replace(CONFIG, n_layers=2)
  recipe = dataclasses.replace(RECIPE, compute_dtype=dtype, compile='xla')

  def count_matmuls():
    adapters = lora.init_adapters(config, rank) if rank else ()
    state = TrainState(GPT(config), adapters)
    steps = step.compiled_train_steps(state, config, recipe)
    program = steps.experimental_get_compiler_ir(
      windows(1, n_batches, 4), tf.constant(1)
    )(stage='optimized_hlo')
    return program.count(' dot(') + program.count(' custom-call(')

  found = count_matmuls()
  # Its gradient starts from a layer's arguments: XLA has to see that it makes
  # again what there is.
  plain = block._traced_block.__wrapped__
  monkeypatch.setattr(block, '_traced_block', plain)
  assert found == count_matmuls() > 0
