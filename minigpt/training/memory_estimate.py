"""Estimates the memory of a training step, before it is compiled.

The state (weights, gradient, AdamW's moments) is exact. The formula for the
activations, which the forward pass keeps for the backward pass, follows XLA's
memory reports of compiled steps. `docs/reliability.md` compares the estimates
with real runs.

Shapes: B batch, T context, D emb_dim, F mlp_dim, H heads, L layers.
"""

import os
from pathlib import Path
from typing import NamedTuple

from minigpt.config import GPTConfig, TrainConfig
from minigpt.errors import UsageError
from minigpt.kernels.fused_linear_cross_entropy import LOGITS_BYTES, MOST_CHUNKS

_CGROUP_LIMITS = (
  '/sys/fs/cgroup/memory.max',
  '/sys/fs/cgroup/memory/memory.limit_in_bytes',
)


# Bytes of TensorFlow itself, and of memory that XLA's compiler does not free.
_PROGRAM = 1400 << 20


class Memory(NamedTuple):
  """The memory of a training process, in bytes."""

  program: int
  state: int  # f32 weights, gradient and two moments
  copies: int  # weights in bfloat16, and the sum of accumulated gradients
  activations: int

  @property
  def total(self) -> int:
    """Returns the sum: all parts are needed at the same time."""
    return sum(self)


def estimate(config: GPTConfig, recipe: TrainConfig) -> Memory:
  """Estimates the memory of a training step, in bytes."""
  c, n = config, config.n_parameters
  item = 2 if recipe.compute_dtype == 'bfloat16' else 4
  n_tokens = recipe.batch_size * c.context_length
  logits = 4 * n_tokens * (c.vocab_size + c.vocab_padding)
  return Memory(
    program=_PROGRAM,
    state=16 * n,
    copies=(2 * n if item == 2 else 0)
    + (4 * n if recipe.grad_accum > 1 else 0),
    # Besides what blocks keep: attention weights and their gradient, of one
    # block at a time; logits and their gradient, of one chunk of the loss.
    activations=n_tokens * (_kept(c) + 2 * c.n_heads * c.context_length) * item
    + 2 * min(logits, max(LOGITS_BYTES, logits // MOST_CHUNKS)),
  )


def _kept(c: GPTConfig) -> int:
  """Counts the numbers per token that the blocks keep for the backward pass."""
  # The residual stream twice, two norms and their intermediates, queries, keys
  # and values, the output of attention, and the MLP before its GELU. Dropout
  # also keeps its masks, including that of the attention weights.
  block = 12 * c.emb_dim + c.mlp_dim
  if c.drop_rate:
    block += 2 * c.emb_dim + c.n_heads * c.context_length
  if c.remat:  # All inputs of blocks, and one block with its gradient.
    return c.n_layers * c.emb_dim + 2 * block
  return c.n_layers * block


def available(limits: tuple[str, ...] = _CGROUP_LIMITS) -> int:
  """Returns the memory of the machine or container, in bytes."""
  found = [os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES')]
  for limit in limits:
    try:
      found.append(int(Path(limit).read_text()))
    except (OSError, ValueError):  # No such cgroup, or no limit: 'max'.
      continue
  return min(found)


def check(config: GPTConfig, recipe: TrainConfig, machine: int) -> str:
  """Compares the estimate with the machine's memory, in a line of text.

  Args:
    config: of the model.
    recipe: of the run.
    machine: memory of the machine, in bytes.

  Raises:
    UsageError: the state alone does not fit, however small the batch.
  """
  need = estimate(config, recipe)
  if need.state > machine:
    raise UsageError(
      f'n_layers={config.n_layers}, emb_dim={config.emb_dim}: weights, '
      f'gradient and moments take {_gib(need.state)}, this machine has '
      f'{_gib(machine)}; choose a smaller --preset, or a larger machine'
    )
  line = f'needs about {_gib(need.total)} of {_gib(machine)} memory'
  if need.total > 0.8 * machine:
    line += (
      f', {_gib(need.activations)} of it for activations: if that is too '
      f'much, lower --batch_size={recipe.batch_size} and raise '
      f'--grad_accum={recipe.grad_accum} by the same factor'
    )
    line += '' if config.remat else ', or give --remat'
  return line


def _gib(n_bytes: int) -> str:
  return f'{n_bytes / 2**30:,.1f} GiB'
