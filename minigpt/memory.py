"""What a training step takes of the machine's memory, before it is compiled.

The state (weights, gradient, AdamW's moments) is known to the byte; what the
forward pass keeps for the backward pass is an estimate, as a compiler may
keep less of it.

Shapes: B batch, T context, D emb_dim, F mlp_dim, H heads, L layers.
"""

import os
from pathlib import Path
from typing import NamedTuple

from minigpt.config import GPTConfig, TrainConfig
from minigpt.errors import UsageError
from minigpt.params import count, specs

_CGROUP_LIMITS = (
  '/sys/fs/cgroup/memory.max',
  '/sys/fs/cgroup/memory/memory.limit_in_bytes',
)


class Memory(NamedTuple):
  """Bytes of one training step."""

  state: int  # f32 weights, gradient and two moments
  copies: int  # of weights in bfloat16, of the sum of gradients
  activations: int

  @property
  def total(self) -> int:
    return sum(self)


def estimate(config: GPTConfig, recipe: TrainConfig) -> Memory:
  c, n = config, count(specs(config))
  item = 2 if recipe.compute_dtype == 'bfloat16' else 4
  # Kept for each token of a block: the residual twice, two norms, queries,
  # keys and values, what attention gives, the MLP before and after its GELU.
  block = 8 * c.emb_dim + 2 * c.mlp_dim + c.n_heads * c.context_length
  logits = 2 * 4 * (c.vocab_size + c.vocab_padding)  # and their gradient
  n_tokens = recipe.batch_size * c.context_length
  return Memory(
    state=16 * n,
    copies=(2 * n if item == 2 else 0)
    + (4 * n if recipe.grad_accum > 1 else 0),
    activations=n_tokens * (c.n_layers * block * item + logits),
  )


def available(limits: tuple[str, ...] = _CGROUP_LIMITS) -> int:
  """Bytes this process may take: the machine's, or its container's."""
  found = [os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES')]
  for limit in limits:
    try:
      found.append(int(Path(limit).read_text()))
    except (OSError, ValueError):  # No such cgroup, or no limit: 'max'.
      continue
  return min(found)


def check(config: GPTConfig, recipe: TrainConfig, machine: int) -> str:
  """One line that compares the need with what the machine has, in bytes.

  Raises:
    UsageError: the state alone does not fit, whatever the batch.
  """
  need = estimate(config, recipe)
  if need.state > machine:
    raise UsageError(
      f'n_layers={config.n_layers}, emb_dim={config.emb_dim}: weights, '
      f'gradient and moments take {_gib(need.state)}, this machine has '
      f'{_gib(machine)}; choose a smaller --preset, or a larger machine'
    )
  line = f'about {_gib(need.total)} of {_gib(machine)} memory'
  if need.total > 0.8 * machine:
    line += (
      f', {_gib(need.activations)} of it activations: if that is too much, '
      f'lower --batch_size={recipe.batch_size} and raise '
      f'--grad_accum={recipe.grad_accum} as many times'
    )
  return line


def _gib(n_bytes: int) -> str:
  return f'{n_bytes / 2**30:,.1f} GiB'
