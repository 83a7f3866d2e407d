"""What a training step of several workers takes, before there are any.

The model: workers compute at a rate, then reduce their gradients in a ring,
and one waits for the other. docs/scaling.md compares it with measurements.
"""

from typing import NamedTuple

from minigpt.config import GPTConfig, TrainConfig
from minigpt.profiling import flops


class Machine(NamedTuple):
  """What one worker has."""

  gflops: float  # that matmuls reach, not what the data sheet says
  gbps: float  # between workers, gigabits a second


class StepCost(NamedTuple):
  """One optimizer step on each of several workers."""

  n_tokens: int  # of all workers
  flops: float  # of one worker
  sent_bytes: float  # by one worker
  compute_s: float
  communication_s: float

  @property
  def seconds(self) -> float:
    """Returns the whole: the reduction waits for the gradient."""
    return self.compute_s + self.communication_s

  @property
  def efficiency(self) -> float:
    """Returns the share of the time in which workers compute."""
    return self.compute_s / self.seconds


def all_reduce_bytes(config: GPTConfig, workers: int) -> float:
  """Returns what each worker sends when gradients are reduced in a ring.

  Patarasu & Yuan 2009: twice the gradient, less what a worker keeps.
  """
  return 2 * (workers - 1) / workers * 4 * config.n_parameters


def step_cost(
  config: GPTConfig, recipe: TrainConfig, workers: int, machine: Machine
) -> StepCost:
  """Returns the cost of a step.

  Args:
    config: the model.
    recipe: its `batch_size` is of all workers together.
    workers: 1 or more.
    machine: the rates of each worker.
  """
  rows = recipe.batch_size * recipe.grad_accum
  n_tokens = rows * config.context_length
  n_flops = flops.train_flops_per_token(config) * n_tokens / workers
  # The update is not shared: each worker makes all of it.
  n_flops += flops.update_flops(config, recipe)
  sent = all_reduce_bytes(config, workers)
  return StepCost(
    n_tokens,
    n_flops,
    sent,
    n_flops / (machine.gflops * 1e9),
    sent * 8 / (machine.gbps * 1e9),
  )
