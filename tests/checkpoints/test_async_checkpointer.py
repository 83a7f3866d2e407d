"""Checkpoints that are written while training continues."""

import contextlib
import os
import resource

import numpy as np
import pytest
import tensorflow as tf

from minigpt.checkpoints import checkpoint
from minigpt.checkpoints.async_checkpointer import AsyncCheckpointer
from minigpt.errors import InputError
from minigpt.training.metrics import MetricsFile


def test_a_snapshot_is_of_the_moment_it_was_taken(toy_state, tmp_path):
  state = toy_state(1.0)

  @tf.function(jit_compile=True)
  def step():
    state.x.assign_add(tf.ones([50]))

  saver = AsyncCheckpointer(tmp_path, keep=2)
  saver.save(1, state.parts(), {'val_loss': None})
  for _ in range(20):
    step()
  saver.wait()
  back = toy_state(0.0)
  checkpoint.restore_newest(tmp_path, back.checkpoint())
  np.testing.assert_array_equal(back.x, np.ones(50, np.float32))
  np.testing.assert_array_equal(state.x, np.full(50, 21, np.float32))


def test_a_state_that_is_not_finite_is_never_saved(toy_state, tmp_path):
  saver = AsyncCheckpointer(tmp_path, keep=2)
  saver.save(1, toy_state(np.nan).parts(), {})
  with pytest.raises(InputError, match='x is not finite after step 1'):
    saver.wait()
  assert not list(tmp_path.iterdir())


def test_a_full_disk_is_reported_and_leaves_nothing(
  toy_state, tmp_path, monkeypatch
):
  def full(_):
    raise OSError(28, 'No space left on device')

  monkeypatch.setattr(os, 'fsync', full)
  saver = AsyncCheckpointer(tmp_path, keep=2)
  saver.save(1, toy_state(1.0).parts(), {})
  with pytest.raises(InputError, match='No space left on device'):
    saver.save(2, toy_state(1.0).parts(), {})
  assert not list(tmp_path.iterdir())


@contextlib.contextmanager
def files_of_at_most(n_bytes: int):
  """Makes the kernel refuse files larger than this."""
  former = resource.getrlimit(resource.RLIMIT_FSIZE)
  resource.setrlimit(resource.RLIMIT_FSIZE, (n_bytes, former[1]))
  try:
    yield
  finally:
    resource.setrlimit(resource.RLIMIT_FSIZE, former)


def test_files_that_cannot_grow_leave_nothing_half_written(
  toy_state, two_checkpoints
):
  before = sorted(two_checkpoints.rglob('*'))
  saver = AsyncCheckpointer(two_checkpoints, keep=2)
  with files_of_at_most(64):
    saver.save(3, toy_state(1.0).parts(), {})
    with pytest.raises(InputError, match='step-00000003 could not be written'):
      saver.wait()
    metrics = MetricsFile(two_checkpoints / 'metrics.jsonl', 0)
    with pytest.raises(InputError, match='continues from its last checkpoint'):
      metrics.write([{'step': 1, 'train_loss': 1.0}] * 9)
    metrics.close()
  (two_checkpoints / 'metrics.jsonl').unlink()
  assert sorted(two_checkpoints.rglob('*')) == before
  found, damages = checkpoint.restore_newest(
    two_checkpoints, toy_state(0.0).checkpoint()
  )
  assert (found.step, damages) == (2, [])
