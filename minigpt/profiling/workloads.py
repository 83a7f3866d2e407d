"""The model at work: a compiled function and all that one call of it is given.

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
from minigpt.generation import decode
from minigpt.model.params import Params, named_leaves
from minigpt.model.transformer import GPT
from minigpt.profiling import flops as costs
from minigpt.training.step import StepMetrics, TrainState, compiled_train_steps


class Call(NamedTuple):
  """A function, its arguments, and what a call amounts to."""

  f: tf.types.experimental.PolymorphicFunction
  arguments: dict[str, tf.Tensor]  # in the order of f's own
  variables: dict[str, tf.Variable]  # what f reads and perhaps changes
  results: tuple[str, ...]
  unit: str  # what a call consists of
  n_units: int
  n_tokens: int
  flops: float
  # Arguments of a call whose time is taken off: it takes no step, or only reads
  # the prompt.
  before: Mapping[str, Any] = MappingProxyType({})

  def __call__(self, **other: Any) -> Any:
    """Calls it, with `other` arguments for some of its own."""
    return self.f(*(self.arguments | other).values())


def train(config: GPTConfig, recipe: TrainConfig) -> Call:
  """As many optimizer steps as `recipe` takes in a call."""
  state = TrainState(GPT(config))
  k, context = recipe.steps_per_call, config.context_length
  rows = [k, recipe.grad_accum, recipe.batch_size]
  n_tokens = int(np.prod(rows)) * context
  return Call(
    compiled_train_steps(state, config, recipe),
    {'windows': _tokens(config, [*rows, context + 1]), 'n': tf.constant(k)},
    {
      name: variable
      for part, tree in state.parts().items()
      for name, variable in named_leaves(tree, part).items()
    },
    StepMetrics._fields,
    unit='step',
    n_units=k,
    n_tokens=n_tokens,
    flops=n_tokens * costs.flops_per_token(config)
    + k * costs.update_flops(config, recipe),
    before={'n': tf.constant(0)},
  )


def score(
  p: Params, config: GPTConfig, n_rows: int, n_prompt: int, mode: str = 'xla'
) -> Call:
  """Reads prompts, and scores the token after each."""

  def score(tokens):
    return decode.next_logits(tokens, p, config)

  n_tokens = n_rows * n_prompt
  return Call(
    jit.compiled(score, mode, frozen=True, inference=True),
    {'tokens': _tokens(config, [n_rows, n_prompt])},
    named_leaves(p, 'params'),
    ('logits',),
    unit='prefill',
    n_units=1,
    n_tokens=n_tokens,
    flops=costs.score_flops(config, n_rows, n_prompt),
  )


def greedy(
  p: Params,
  config: GPTConfig,
  n_rows: int,
  n_prompt: int,
  n_new: int,
  mode: str = 'xla',
) -> Call:
  """Writes the `n_new` likeliest tokens after each prompt."""

  def greedy(tokens, n):
    return decode.greedy(tokens, n, n_new, p, config)

  n_seen = n_prompt + n_new / 2
  return Call(
    jit.compiled(greedy, mode, frozen=True, inference=True),
    {
      'tokens': _tokens(config, [n_rows, n_prompt]),
      'n': tf.constant(n_new),
    },
    named_leaves(p, 'params'),
    ('new_tokens',),
    unit='token',
    n_units=n_new,
    n_tokens=n_rows * n_new,
    flops=n_new * costs.forward_flops(config, n_rows, n_seen, n_rows),
    before={'n': tf.constant(0)},
  )


def _tokens(config, shape):
  rng = np.random.default_rng(0)
  return tf.constant(rng.integers(0, config.vocab_size, shape, np.int32))
