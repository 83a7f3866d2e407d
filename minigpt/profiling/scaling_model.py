"""Predicts the time of a training step on several workers.

The model: all workers compute at a constant rate, then reduce their gradients
in a ring; the two do not overlap. docs/scaling.md compares it with
measurements.
"""

from typing import NamedTuple

from minigpt.config import GPTConfig, TrainConfig
from minigpt.profiling import flops


class Machine(NamedTuple):
  """The rates of one worker."""

  gflops: float  # measured with matmuls, not taken from a data sheet
  gbps: float  # network between workers, gigabits per second


class StepCost(NamedTuple):
  """The cost of an optimizer step on several workers."""

  n_tokens: int  # of all workers
  flops: float  # of one worker
  sent_bytes: float  # by one worker
  compute_s: float
  communication_s: float

  @property
  def seconds(self) -> float:
    """Returns the sum: the reduction starts after the gradient."""
    return self.compute_s + self.communication_s

  @property
  def efficiency(self) -> float:
    """Returns the share of the time that workers compute."""
    return self.compute_s / self.seconds


def all_reduce_bytes(config: GPTConfig, workers: int) -> float:
  """Returns the bytes that each worker sends to reduce gradients in a ring.

  Patarasu & Yuan 2009: 2 (N - 1) / N times the gradient's size, for N workers.
  """
  return 2 * (workers - 1) / workers * 4 * config.n_parameters


def step_cost(
  config: GPTConfig, recipe: TrainConfig, workers: int, machine: Machine
) -> StepCost:
  """Returns the cost of a step.

  Args:
    config: the model.
    recipe: the training settings; `batch_size` counts all workers together.
    workers: 1 or more.
    machine: the rates of each worker.
  """
  rows = recipe.batch_size * recipe.grad_accum
  n_tokens = rows * config.context_length
  n_flops = flops.train_flops_per_token(config) * n_tokens / workers
  # The update is not split: each worker makes all of it.
  n_flops += flops.update_flops(config, recipe)
  sent = all_reduce_bytes(config, workers)
  return StepCost(
    n_tokens,
    n_flops,
    sent,
    n_flops / (machine.gflops * 1e9),
    sent * 8 / (machine.gbps * 1e9),
  )
