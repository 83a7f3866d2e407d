"""The matmuls of a training step; docs/design/compilation.md, "Matmuls"."""

import re

import pytest
import tensorflow as tf

from minigpt.compiler import cpu_features
from minigpt.config import GPTConfig, TrainConfig
from minigpt.kernels import onednn_matmul
from minigpt.model.transformer import GPT
from minigpt.training import step
from minigpt.training.state import TrainState

needs_onednn = pytest.mark.skipif(
  not onednn_matmul.available(), reason='this machine has no oneDNN under XLA'
)


needs_units = pytest.mark.skipif(
  not (cpu_features.here().bfloat16 and onednn_matmul.available()),
  reason='this machine has no units for bfloat16, or no oneDNN under XLA',
)


def step_hlo(compute_dtype):
  config = GPTConfig(64, 16, 32, 2, 2, drop_rate=0.0)
  state = TrainState(GPT(config))
  recipe = TrainConfig(
    batch_size=2, grad_accum=1, compute_dtype=compute_dtype, compile='xla'
  )
  steps = step.compiled_train_steps(state, config, recipe)
  windows = tf.zeros([1, 1, 2, 17], tf.int32)
  return steps.experimental_get_compiler_ir(windows, tf.constant(1))(
    'optimized_hlo'
  )


@needs_units
def test_every_product_of_a_training_step_is_left_to_the_units():
  hlo = step_hlo('bfloat16')
  dtypes = dict(re.findall(r'(%\S+) = (\w+)\[', hlo))
  left = re.findall(r' dot\((%\S+), (%\S+)\)', hlo)
  assert {dtypes[factor] for pair in left for factor in pair} <= {'f32'}
  # Six in each block, the logits, and two for the gradient of each.
  assert hlo.count('__onednn$matmul') == 3 * (2 * 6 + 1)


@needs_onednn
def test_gradients_of_weights_keys_and_values_are_left_to_onednn():
  # In f32 four weights a block, keys and values, and the head.
  assert step_hlo('float32').count('__onednn$matmul') == 2 * (4 + 2) + 1
