"""What is kept of a run while it trains: its state, restored and saved."""

import contextlib
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import tensorflow as tf

from minigpt.checkpoints import checkpoint, loading, workdir
from minigpt.checkpoints.async_checkpointer import AsyncCheckpointer
from minigpt.checkpoints.checkpoint import Checkpoint
from minigpt.checkpoints.loading import LoadedModel
from minigpt.checkpoints.workdir import RunConfig
from minigpt.config import TrainConfig
from minigpt.data.batches import batch_numbers
from minigpt.model.transformer import GPT
from minigpt.runtime.lock import Lock
from minigpt.training import stability
from minigpt.training.metrics import Record
from minigpt.training.single_worker import SingleWorker
from minigpt.training.state import make_state
from minigpt.training.validation import EvalHistory

Self = TypeVar('Self', bound='RunState')


class RunState:
  """A run as its work directory knows it.

  Attributes:
    path: the work directory.
    config: model, data and recipe.
    workers: this process among those of the run.
    model: with the weights of the last step; the start's where adapters train.
    state: what a training step reads and changes.
    history: how evaluations have gone.
    skipped: numbers of batches that are left out.
    checkpointer: writes checkpoints.
  """

  def __init__(
    self,
    path: str | Path,
    config: RunConfig,
    workers: SingleWorker | None = None,
  ):
    """Builds the model before its first step; see `restore`."""
    self.path = Path(path)
    self.config = config
    self.workers = workers or SingleWorker()
    self.model = GPT(config.model, config.train.seed)
    self.state = make_state(self.model, config.train)
    self.checkpointer = AsyncCheckpointer(
      workdir.checkpoints(path), config.train.keep_checkpoints
    )
    skipped = stability.read_skipped(self.path / 'skipped.json')
    self.skipped = [entry['batch'] for entry in skipped]
    self.history = EvalHistory()
    # Of the frozen weights of adapters.
    self._start_checksum: int | None = None
    self._held = contextlib.ExitStack()
    self._lock: Lock | None = None

  def __enter__(self: Self) -> Self:
    return self

  def __exit__(self, *exception: Any) -> bool | None:
    return self._held.__exit__(*exception)

  def hold(self, resources: contextlib.ExitStack, lock: Lock | None) -> None:
    """Keeps resources until the run is left.

    Args:
      resources: what is released then.
      lock: the directory's; None for workers that write nothing.
    """
    self._held = resources
    self._lock = lock

  def check_folder(self) -> None:
    """Raises InputError where the directory is no longer the one of the run."""
    if self._lock:
      self._lock.check()

  @property
  def recipe(self) -> TrainConfig:
    """Returns how the run trains."""
    return self.config.train

  @property
  def step(self) -> int:
    """Counts the steps that were made."""
    return int(self.state.step.numpy())

  def batch_number(self, step: int) -> int:
    """Returns the number of a step's batch among those that are not skipped."""
    return int(batch_numbers(np.array([step]), self.skipped)[0])

  def restore(
    self, start: LoadedModel | None = None
  ) -> list[checkpoint.Damage]:
    """Goes to the newest whole checkpoint; without one, to the first step.

    Args:
      start: the model of `init_from`, where it has been read already.

    Returns:
      Newer checkpoints that are damaged, renamed out of the way.
    """
    damages = self._read_newest(start) if self.workers.is_chief else []
    self.workers.broadcast_state(self.state)
    history = self.workers.broadcast(np.array(self.history, np.float64))
    self.history = EvalHistory(float(history[0]), int(history[1]))
    return damages

  def _read_newest(self, start: LoadedModel | None) -> list[checkpoint.Damage]:
    folder = workdir.checkpoints(self.path)
    self._load_start(start)
    found, damages = checkpoint.restore_newest(folder, self.state.checkpoint())
    if found:
      self.history = EvalHistory(found.info['best_loss'], found.info['n_worse'])
    elif self.step:
      self._start_over()
    return [d._replace(path=checkpoint.set_aside(d)) for d in damages]

  def _load_start(self, start: LoadedModel | None = None) -> None:
    """Reads the weights of `init_from`, where no checkpoint holds them."""
    recipe = self.recipe
    found = checkpoint.list_checkpoints(workdir.checkpoints(self.path))
    if recipe.init_from and (recipe.lora_rank or not found):
      wanted = found[-1].info.get('start') if found else None
      weights, checksum = loading.load_start(self.config, wanted, start)
      self._start_checksum = checksum
      loading.assign(self.model.params, weights)

  def _start_over(self) -> None:
    """Goes back to the first step of a run that has no checkpoint yet."""
    first = make_state(GPT(self.config.model, self.recipe.seed), self.recipe)
    tf.nest.map_structure(
      lambda old, new: old.assign(new), self.state.parts(), first.parts()
    )
    self._load_start()
    self.history = EvalHistory()

  def save(self, record: Record) -> None:
    """Starts a checkpoint; `checkpointer.wait` tells when it is there."""
    if not self.workers.is_chief:
      return
    self.check_folder()
    info = {
      'val_loss': record.get('val_loss'),
      'best_loss': self.history.best_loss,
      'n_worse': self.history.n_worse,
      'start': self._start_checksum if self.recipe.lora_rank else None,
    }
    self.checkpointer.save(self.step, self.state.parts(), info)

  def best_checkpoint(self) -> Checkpoint | None:
    """Returns the one of lowest validation loss, or the newest without one."""
    return checkpoint.best(
      checkpoint.list_checkpoints(workdir.checkpoints(self.path))
    )
