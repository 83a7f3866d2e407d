"""The interface of a run to its workers, for a process that is alone.

Shapes: K steps in a call.
"""

import contextlib
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

from minigpt.config import GPTConfig, TrainConfig
from minigpt.training.state import TrainState
from minigpt.training.step import Batch, StepMetrics, compiled_train_steps

# Makes the first n of K steps; n = 0 only compiles.
TrainSteps: TypeAlias = Callable[[Batch, np.int32], StepMetrics]


class SingleWorker:
  """A run of one process with one device: collectives are identities."""

  is_chief = True

  def check_batch_size(self, recipe: TrainConfig) -> None:
    """Raises UsageError if the batch cannot be split evenly over workers."""

  @contextlib.contextmanager
  def lost_worker_is_an_error(self, checkpoints: Path) -> Iterator[None]:
    """Turns the loss of another worker into an InputError.

    Args:
      checkpoints: the folder from which the run continues.
    """
    yield

  def train_steps(
    self, state: TrainState, config: GPTConfig, recipe: TrainConfig
  ) -> TrainSteps:
    """Compiles the first `n` of K steps; n = 0 only compiles."""
    return compiled_train_steps(state, config, recipe)

  def broadcast_state(self, state: TrainState) -> None:
    """Gives every replica the state of the chief."""

  def shard(self, batches: Iterable[Any]) -> Iterable[Any]:
    """Returns this worker's share of the batches."""
    return batches

  def reduce_sum(self, values: np.ndarray) -> np.ndarray:
    """Adds the values of all workers."""
    return values

  def broadcast(self, values: np.ndarray) -> np.ndarray:
    """Returns the values of the chief."""
    return values

  def reduce_max(self, number: int) -> int:
    """Returns the highest of all workers' numbers; waits for all workers."""
    return number

  def barrier(self) -> None:
    """Waits until all workers have reached this call."""
    self.reduce_max(0)
