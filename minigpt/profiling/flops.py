"""What a training step costs, from shapes alone.

Shapes: T context, D emb_dim, F mlp_dim, L layers, V vocabulary.
"""

from typing import NamedTuple

from minigpt.config import GPTConfig, TrainConfig
from minigpt.training import memory_estimate, muon


class Machine(NamedTuple):
  """What one worker has."""

  gflops: float  # that products reach, not what the data sheet says
  gbps: float  # between workers, gigabits a second


class Step(NamedTuple):
  """One optimizer step on each of several workers."""

  n_tokens: int  # of all workers
  flops: float  # of one worker
  sent_bytes: float  # by one worker
  compute_s: float
  communication_s: float

  @property
  def seconds(self) -> float:
    """The reduction waits for the gradient, and the update for it."""
    return self.compute_s + self.communication_s

  @property
  def efficiency(self) -> float:
    """Share of the time in which workers compute."""
    return self.compute_s / self.seconds


def forward_flops(
  config: GPTConfig, n_tokens: int, n_keys: float, n_scored: int
) -> float:
  """Operations of the products of one forward pass.

  Args:
    n_keys: keys that each token is compared with, hidden ones too.
    n_scored: tokens whose successors are scored.
  """
  c = config
  block = 4 * c.emb_dim**2 + 2 * c.emb_dim * c.mlp_dim
  pairs = 2 * n_keys * c.emb_dim
  head = c.emb_dim * (c.vocab_size + c.vocab_padding)
  return 2 * (n_tokens * c.n_layers * (block + pairs) + n_scored * head)


def score_flops(config: GPTConfig, n_rows: int, n_prompt: int) -> float:
  """Of one forward pass over prompts, each scored at its end alone.

  All but the last token need no more of the last block than keys and values.
  """
  c = config
  after = c.emb_dim**2 + 2 * c.emb_dim * c.mlp_dim + 2 * n_prompt * c.emb_dim
  n_spared = n_rows * (n_prompt - 1)
  whole = forward_flops(config, n_rows * n_prompt, n_prompt, n_rows)
  return whole - 2 * n_spared * after


def flops_per_token(config: GPTConfig) -> float:
  """Forward and backward, the products alone (Chowdhery et al. 2022, B).

  The backward pass takes twice the operations of the forward pass; `remat`
  makes that of the blocks a second time.
  """
  forward = forward_flops(config, 1, config.context_length, 1)
  blocks = forward_flops(config, 1, config.context_length, 0)
  return 3 * forward + (blocks if config.remat else 0)


def update_flops(config: GPTConfig, recipe: TrainConfig) -> float:
  """Operations of the products of one update: AdamW has none."""
  if recipe.optimizer == 'adamw':
    return 0

  def turn(m: int, n: int) -> int:  # of `muon.newton_schulz`, m <= n
    return 4 * m * m * n + 2 * m**3

  d, f = config.emb_dim, config.mlp_dim
  block = 4 * turn(d, d) + 2 * turn(d, f)
  return muon.TURNS * config.n_layers * block


def reduced_bytes(config: GPTConfig, workers: int) -> float:
  """What each worker sends when gradients are reduced in a ring.

  Patarasu & Yuan 2009: twice the gradient, less what a worker keeps.
  """
  return 2 * (workers - 1) / workers * 4 * memory_estimate.n_parameters(config)


def step(
  config: GPTConfig, recipe: TrainConfig, workers: int, machine: Machine
) -> Step:
  """`recipe.batch_size` is of all workers together."""
  rows = recipe.batch_size * recipe.grad_accum
  n_tokens = rows * config.context_length
  flops = flops_per_token(config) * n_tokens / workers
  flops += update_flops(config, recipe)  # Each worker makes all of it.
  sent = reduced_bytes(config, workers)
  return Step(
    n_tokens,
    flops,
    sent,
    flops / (machine.gflops * 1e9),
    sent * 8 / (machine.gbps * 1e9),
  )
