"""The model at work: a compiled function, its arguments, and what it costs.

What `minigpt bench` times, and what `stablehlo` writes for other runtimes.
Tokens are random: neither speed nor a comparison of results asks for sense.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from minigpt.compiler import jit
from minigpt.config import GPTConfig, TrainConfig
from minigpt.generation import decode as decoding
from minigpt.model.params import Params, count, named_leaves, specs
from minigpt.model.transformer import GPT
from minigpt.profiling import flops as counts
from minigpt.training.state import TrainState
from minigpt.training.step import StepMetrics, compiled_train_steps


class Workload(NamedTuple):
  """A function, its arguments, and what a call of it amounts to."""

  f: tf.types.experimental.PolymorphicFunction
  arguments: dict[str, tf.Tensor]  # in the order of f's own
  variables: dict[str, tf.Variable]  # what f reads and perhaps changes
  results: tuple[str, ...]
  unit: str  # what a call consists of
  n_units: int
  n_tokens: int
  flops: float
  bytes: float  # moved if every operand were touched once
  # Arguments of a call whose time is taken off: it takes no step, or ends
  # after the prompt.
  before: Mapping[str, Any] = MappingProxyType({})

  def __call__(self, **other: Any) -> Any:
    """Calls the function, with `other` in place of some arguments."""
    return self.f(*(self.arguments | other).values())


def train(config: GPTConfig, recipe: TrainConfig) -> Workload:
  """Returns as many optimizer steps as `recipe` takes in a call."""
  state = TrainState(GPT(config))
  k, context = recipe.steps_per_call, config.context_length
  rows = [k, recipe.grad_accum, recipe.batch_size]
  n_tokens = int(np.prod(rows)) * context
  return Workload(
    compiled_train_steps(state, config, recipe),
    {
      'windows': _random_tokens(config, [*rows, context + 1]),
      'n': tf.constant(k),
    },
    {
      name: variable
      for part, tree in state.parts().items()
      for name, variable in named_leaves(tree, part).items()
    },
    StepMetrics._fields,
    unit='step',
    n_units=k,
    n_tokens=n_tokens,
    flops=n_tokens * counts.train_flops_per_token(config)
    + k * counts.update_flops(config, recipe),
    bytes=k * counts.update_bytes(config),
    before={'n': tf.constant(0)},
  )


def prefill(
  p: Params, config: GPTConfig, n_rows: int, n_prompt: int, mode: str = 'xla'
) -> Workload:
  """Returns a forward pass over prompts that scores the token after each.

  Args:
    p: parameters, perhaps quantized.
    config: the model.
    n_rows: prompts in a batch.
    n_prompt: tokens of each.
    mode: what it is compiled for, one of `backend`'s.
  """

  def prefill(tokens):
    return decoding.next_logits(tokens, p, config)

  return Workload(
    jit.compiled(prefill, mode, frozen=True, inference=True),
    {'tokens': _random_tokens(config, [n_rows, n_prompt])},
    named_leaves(p, 'params'),
    ('logits',),
    unit='prefill',
    n_units=1,
    n_tokens=n_rows * n_prompt,
    flops=counts.prefill_flops(config, n_rows, n_prompt),
    bytes=weight_bytes(p, config),
  )


def decode(
  p: Params,
  config: GPTConfig,
  n_rows: int,
  n_prompt: int,
  n_new: int,
  mode: str = 'xla',
) -> Workload:
  """Returns greedy decoding of `n_new` tokens after each prompt.

  The arguments are those of `prefill`.
  """

  def decode(tokens, n):
    return decoding.greedy(tokens, n, n_new, p, config)

  # A token sees half of the new ones, on average.
  n_seen = n_prompt + n_new / 2
  each = counts.forward_flops(config, n_rows, n_seen, n_rows)
  moved = weight_bytes(p, config) + counts.cache_bytes(config, n_rows, n_seen)
  return Workload(
    jit.compiled(decode, mode, frozen=True, inference=True),
    {
      'tokens': _random_tokens(config, [n_rows, n_prompt]),
      'n': tf.constant(n_new),
    },
    named_leaves(p, 'params'),
    ('new_tokens',),
    unit='token',
    n_units=n_new,
    n_tokens=n_rows * n_new,
    flops=n_new * each,
    bytes=n_new * moved,
    before={'n': tf.constant(0)},
  )


def weight_bytes(p: Params, config: GPTConfig) -> int:
  """Returns the bytes of all weights, in the type of the embedding."""
  wte: Any = getattr(p.wte, 'values', p.wte)  # Of a quantized matrix.
  return wte.dtype.size * count(specs(config))


def _random_tokens(config: GPTConfig, shape: list[int]) -> tf.Tensor:
  rng = np.random.default_rng(0)
  return tf.constant(rng.integers(0, config.vocab_size, shape, np.int32))
