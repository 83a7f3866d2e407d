"""Asynchronous checkpoints: training goes on while they are written.

A snapshot shares the variables' buffers and copies nothing. As the snapshot
keeps these buffers alive, the next training step writes into new ones.
"""

import threading
from pathlib import Path
from typing import Any

import tensorflow as tf

from minigpt.checkpoints import checkpoint
from minigpt.errors import InputError
from minigpt.model.params import named_leaves


class AsyncCheckpointer:
  """Writes one checkpoint at a time in a thread of its own."""

  def __init__(self, folder: str | Path, keep: int):
    """Keeps the newest `keep` checkpoints in `folder`, and the best one."""
    self._folder = Path(folder)
    self._keep = keep
    self._thread: threading.Thread | None = None
    self._error: InputError | None = None

  def save(self, step: int, state: dict[str, Any], info: dict[str, Any]):
    """Waits for the previous checkpoint, then starts writing this one.

    Args:
      step: the step, which names the checkpoint.
      state: trees of tf.Variable by their names in the checkpoint.
      info: further values for `info.json`.

    Raises:
      InputError: the previous checkpoint could not be written.
    """
    self.wait()
    snapshot = tf.nest.map_structure(lambda v: v.read_value(), state)
    # Not a daemon thread: if the program fails, Python still waits for it.
    self._thread = threading.Thread(
      target=self._write, args=(step, snapshot, info)
    )
    self._thread.start()

  def wait(self) -> None:
    """Waits until the checkpoint is on the disk.

    Raises:
      InputError: a checkpoint could not be written.
    """
    if self._thread:
      self._thread.join()
      self._thread = None
    self.check()

  def finish(self) -> None:
    """Waits until the current write has ended, whether or not it failed.

    Any thread may call it, at any time.
    """
    thread = self._thread
    if thread:
      thread.join()

  def check(self) -> None:
    """Raises the InputError of a failed write, if there is one."""
    if self._error:
      error, self._error = self._error, None
      raise error

  def _write(
    self, step: int, snapshot: dict[str, Any], info: dict[str, Any]
  ) -> None:
    try:
      # In this thread, so that training does not wait for the check.
      check_finite(step, snapshot)
      # A tf.train.Checkpoint takes variables, not tensors.
      variables = tf.nest.map_structure(tf.Variable, snapshot)
      checkpoint.save(
        self._folder, step, tf.train.Checkpoint(**variables), info
      )
      checkpoint.prune(self._folder, self._keep)
    except InputError as error:
      self._error = error
    except OSError as error:  # From `prune`.
      self._error = InputError(f'{self._folder}: {error.strerror}')


def check_finite(step: int, state: dict[str, Any]) -> None:
  """Raises InputError for the first leaf that holds a NaN or an infinity."""
  for part, tree in state.items():
    for name, leaf in named_leaves(tree, part).items():
      if leaf.dtype.is_floating and not _is_finite(leaf):
        raise InputError(
          f'{name} is not finite after step {step}, so the step was not saved; '
          'continue from the last checkpoint with a lower --learning_rate'
        )


def _is_finite(x: tf.Tensor) -> bool:
  return bool(tf.reduce_all(tf.math.is_finite(x)))
