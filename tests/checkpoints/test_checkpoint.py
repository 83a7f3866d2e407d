"""Checkpoints are atomic, and damage is detected."""

import contextlib
import errno
import os
import resource
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from minigpt.checkpoints import checkpoint
from minigpt.checkpoints.checkpoint import DamagedError
from minigpt.errors import InputError
from minigpt.runtime import atomic_io


def test_only_the_newest_and_the_best_checkpoint_are_kept(toy_state, tmp_path):
  state = toy_state(1.0).checkpoint()
  for step, loss in ((1, 3.0), (2, 1.0), (3, 2.0), (4, 4.0), (5, 5.0)):
    checkpoint.save(tmp_path, step, state, {'val_loss': loss})
    checkpoint.prune(tmp_path, keep=2)
  left = checkpoint.list_checkpoints(tmp_path)
  assert [c.step for c in left] == [2, 4, 5]
  assert checkpoint.best(left).step == 2


def test_a_failed_save_leaves_nothing(toy_state, tmp_path, monkeypatch):
  def full_disk(path):
    raise OSError(28, 'No space left on device')

  monkeypatch.setattr(atomic_io, 'fsync', full_disk)
  with pytest.raises(InputError, match='No space left'):
    checkpoint.save(tmp_path, 1, toy_state(1.0).checkpoint(), {})
  assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize('name', ['a[1]', 'a*b', 'a?b', 'a\\b', '[a', ' '])
def test_a_folder_may_have_any_name(toy_state, tmp_path, name, monkeypatch):
  """TensorFlow's readers take some names for glob patterns."""
  folder = tmp_path / name
  folder.mkdir()
  monkeypatch.chdir(folder)
  for place in folder, Path('.'):
    checkpoint.save(place, 1, toy_state(5.0).checkpoint(), {})
    state = toy_state(0.0)
    [found] = checkpoint.list_checkpoints(place)
    checkpoint.restore(found, state.checkpoint())
    assert state.x[0] == 5.0
    checkpoint.verify(found)


def damage_cut(content: bytes, where: float) -> bytes:
  return content[: int(len(content) * where)]


def damage_flip(content: bytes, where: float) -> bytes:
  place = int((len(content) - 1) * where)
  return content[:place] + bytes([content[place] ^ 0x10]) + content[place + 1 :]


def damage_deep(content: bytes, where: float) -> bytes:
  return b'[' * 100_000


@pytest.mark.parametrize('damage', [damage_cut, damage_flip, damage_deep])
@pytest.mark.parametrize('where', [0.0, 0.3, 0.6])
@pytest.mark.parametrize(
  'name', ['state.index', 'state.data-00000-of-00001', 'info.json']
)
def test_a_damaged_checkpoint_is_named_and_the_one_before_is_used(
  toy_state, two_checkpoints, name, where, damage
):
  file = two_checkpoints / 'step-00000002' / name
  file.write_bytes(damage(file.read_bytes(), where))
  state = toy_state(0.0)
  found, [damaged] = checkpoint.restore_newest(
    two_checkpoints, state.checkpoint()
  )
  assert found.step == 1
  np.testing.assert_array_equal(state.x, np.ones(50, np.float32))
  assert damaged.path == file.parent
  moved = checkpoint.set_aside(damaged)
  assert moved.name == 'damaged-step-00000002'
  assert [c.step for c in checkpoint.list_checkpoints(two_checkpoints)] == [1]


def test_without_a_whole_checkpoint_a_run_does_not_start_over(
  toy_state, two_checkpoints
):
  for path in two_checkpoints.iterdir():
    (path / 'state.index').unlink()
  with pytest.raises(InputError, match='no checkpoint in'):
    checkpoint.restore_newest(two_checkpoints, toy_state(0.0).checkpoint())


def test_a_second_damage_keeps_what_was_set_aside_before(two_checkpoints):
  damage = checkpoint.Damage(two_checkpoints / 'step-00000002', '')
  names = []
  for content in ('one', 'two', 'three'):
    damage.path.mkdir(exist_ok=True)
    (damage.path / 'content').write_text(content)
    names.append(checkpoint.set_aside(damage))
  assert [(path / 'content').read_text() for path in names] == [
    *('one', 'two', 'three')
  ]


def test_a_damaged_best_one_is_found_beside_a_whole_newest(
  toy_state, two_checkpoints
):
  for step, loss in ((3, 0.1), (4, 0.2), (5, 9.0)):
    state = toy_state(1.0).checkpoint()
    checkpoint.save(two_checkpoints, step, state, {'val_loss': loss})
  for step in (3, 4):
    folder = two_checkpoints / f'step-{step:08d}'
    file = folder / 'state.data-00000-of-00001'
    file.write_bytes(damage_flip(file.read_bytes(), 0.5))
  found, damages = checkpoint.restore_newest(
    two_checkpoints, toy_state(0.0).checkpoint()
  )
  assert found.step == 5
  assert [d.path.name for d in damages] == ['step-00000003', 'step-00000004']


@contextlib.contextmanager
def no_more_files():
  """Uses up all file descriptors."""
  former = resource.getrlimit(resource.RLIMIT_NOFILE)
  most = max(map(int, os.listdir('/proc/self/fd'))) + 1
  resource.setrlimit(resource.RLIMIT_NOFILE, (most, former[1]))
  with contextlib.ExitStack() as stack:
    stack.callback(resource.setrlimit, resource.RLIMIT_NOFILE, former)
    with contextlib.suppress(OSError):
      while True:
        stack.callback(os.close, os.dup(0))
    yield


def test_too_many_open_files_are_no_damage(toy_state, two_checkpoints):
  state = toy_state(0.0).checkpoint()
  with no_more_files(), pytest.raises(InputError, match='Too many open files'):
    checkpoint.restore_newest(two_checkpoints, state)
  [found, _] = checkpoint.list_checkpoints(two_checkpoints)
  with no_more_files(), pytest.raises(InputError, match='open files') as caught:
    checkpoint.restore(found, state)
  assert not isinstance(caught.value, DamagedError)


@pytest.mark.parametrize('number', [errno.EACCES, errno.EIO, errno.ESTALE])
def test_what_the_system_does_not_let_be_read_is_no_damage(
  toy_state, two_checkpoints, monkeypatch, number
):
  def refuse(*_, **__):
    raise OSError(number, os.strerror(number))

  state = toy_state(0.0).checkpoint()
  with monkeypatch.context() as patch:
    patch.setattr(type(two_checkpoints), 'read_text', refuse)
    with pytest.raises(InputError, match='cannot be read'):
      checkpoint.restore_newest(two_checkpoints, state)
  with monkeypatch.context() as patch:
    patch.setattr(os, 'listdir', refuse)
    with pytest.raises(InputError, match='cannot be read'):
      checkpoint.list_checkpoints(two_checkpoints)
  # As in TensorFlow's message.
  error = RuntimeError(f'/some/state.index; {os.strerror(number)}')
  with monkeypatch.context() as patch:
    patch.setattr(state, 'read', lambda _: (_ for _ in ()).throw(error))
    with pytest.raises(InputError, match='cannot be read'):
      checkpoint.restore_newest(two_checkpoints, state)


def test_another_model_is_no_damage(toy_state, two_checkpoints, tmp_path):
  other = toy_state(0.0)
  other.x = tf.Variable(tf.zeros([3]))
  with pytest.raises(InputError, match='does not fit'):
    checkpoint.restore_newest(two_checkpoints, other.checkpoint())


def test_checkpoints_are_ordered_by_number(toy_state, tmp_path):
  for step in (99_999_999, 100_000_000):
    checkpoint.save(tmp_path, step, toy_state(1.0).checkpoint(), {})
  found = checkpoint.list_checkpoints(tmp_path)
  assert [c.step for c in found] == [99_999_999, 100_000_000]


def test_losses_that_are_no_numbers_rank_last(tmp_path):
  losses = [None, float('nan'), 2.0, 'low', 1.0, None]
  found = checkpoint.rank(
    [
      checkpoint.Checkpoint(tmp_path, step, {'val_loss': loss})
      for step, loss in enumerate(losses)
    ]
  )
  assert [c.step for c in found] == [4, 2, 5, 3, 1, 0]
