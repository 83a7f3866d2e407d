"""Workloads: compiled functions of a model, with arguments and costs.

`minigpt bench` times them, and `stablehlo` writes them for other runtimes. The
tokens are random, as only speed and equality of results matter.
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
  """A function, its arguments, and the cost of a call."""

  f: tf.types.experimental.PolymorphicFunction
  arguments: dict[str, tf.Tensor]  # in the order of f's parameters
  variables: dict[str, tf.Variable]  # those that f reads or changes
  results: tuple[str, ...]  # names of the results
  unit: str  # 'step', 'prefill' or 'token'
  n_units: int  # units in a call
  n_tokens: int  # tokens in a call
  flops: float  # of a call
  bytes: float  # of a call that touches each operand once
  # Arguments of a call whose time is subtracted: it makes no step, or only
  # reads the prompt.
  before: Mapping[str, Any] = MappingProxyType({})

  def __call__(self, **other: Any) -> Any:
    """Calls the function; `other` replaces some of the arguments."""
    return self.f(*(self.arguments | other).values())


def train(config: GPTConfig, recipe: TrainConfig) -> Workload:
  """Returns the workload of one call of the training program."""
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
  """Returns a forward pass over prompts, to the logits of the next token.

  Args:
    p: parameters, which may be quantized.
    config: the model.
    n_rows: prompts in the batch.
    n_prompt: tokens in each prompt.
    mode: a backend of `compiler.backend`.
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

  See `prefill` for the arguments.
  """

  def decode(tokens, n):
    return decoding.greedy(tokens, n, n_new, p, config)

  # On average, a new token sees half of the new tokens.
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
  """Returns the bytes of all weights, in the dtype of the embedding."""
  wte: Any = getattr(p.wte, 'values', p.wte)  # `values`: a quantized matrix.
  return wte.dtype.size * count(specs(config))


def _random_tokens(config: GPTConfig, shape: list[int]) -> tf.Tensor:
  rng = np.random.default_rng(0)
  return tf.constant(rng.integers(0, config.vocab_size, shape, np.int32))
