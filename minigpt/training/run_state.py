"""The state of a run: its model and history, restored and saved."""

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
  """The state of a run, and its work directory.

  Attributes:
    path: the work directory.
    config: model, data and recipe.
    workers: the workers of the run.
    model: the model; where adapters train, its weights are those of the start.
    state: the variables that a training step reads and changes.
    history: the results of evaluations so far.
    skipped: indices of batches that are left out.
    checkpointer: writes checkpoints.
  """

  def __init__(
    self,
    path: str | Path,
    config: RunConfig,
    workers: SingleWorker | None = None,
  ):
    """Builds the model with its initial weights; see `restore`."""
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
    # Checksum of the frozen weights, where adapters train.
    self._start_checksum: int | None = None
    self._held = contextlib.ExitStack()
    self._lock: Lock | None = None

  def __enter__(self: Self) -> Self:
    return self

  def __exit__(self, *exception: Any) -> bool | None:
    return self._held.__exit__(*exception)

  def hold(self, resources: contextlib.ExitStack, lock: Lock | None) -> None:
    """Takes over resources, to be released when the run's `with` exits.

    Args:
      resources: what to release.
      lock: the directory's lock; None for workers that write nothing.
    """
    self._held = resources
    self._lock = lock

  def check_folder(self) -> None:
    """Raises InputError if the directory was moved or replaced."""
    if self._lock:
      self._lock.check()

  @property
  def recipe(self) -> TrainConfig:
    """Returns the training settings."""
    return self.config.train

  @property
  def step(self) -> int:
    """Returns the number of steps made so far."""
    return int(self.state.step.numpy())

  def batch_number(self, step: int) -> int:
    """Returns the index of a step's batch, given the skipped ones."""
    return int(batch_numbers(np.array([step]), self.skipped)[0])

  def restore(
    self, start: LoadedModel | None = None
  ) -> list[checkpoint.Damage]:
    """Restores the newest intact checkpoint, or else the first step.

    Args:
      start: the model of `init_from`, if it is already loaded.

    Returns:
      Damaged checkpoints newer than that one, which are renamed.
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
    """Loads the weights of `init_from`, unless a checkpoint holds them."""
    recipe = self.recipe
    found = checkpoint.list_checkpoints(workdir.checkpoints(self.path))
    if recipe.init_from and (recipe.lora_rank or not found):
      wanted = found[-1].info.get('start') if found else None
      weights, checksum = loading.load_start(self.config, wanted, start)
      self._start_checksum = checksum
      loading.assign(self.model.params, weights)

  def _start_over(self) -> None:
    """Resets a run that has no checkpoint yet to its first step."""
    first = make_state(GPT(self.config.model, self.recipe.seed), self.recipe)
    tf.nest.map_structure(
      lambda old, new: old.assign(new), self.state.parts(), first.parts()
    )
    self._load_start()
    self.history = EvalHistory()

  def save(self, record: Record) -> None:
    """Starts writing a checkpoint; `checkpointer.wait` waits for its end."""
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
    """Returns the checkpoint of lowest validation loss, or else the newest."""
    return checkpoint.best(
      checkpoint.list_checkpoints(workdir.checkpoints(self.path))
    )
