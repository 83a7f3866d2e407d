"""Checkpoints are whole or not there, and damage is noticed."""

import numpy as np
import pytest

from minigpt.checkpoints import checkpoint
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


def damage_cut(content: bytes, where: float) -> bytes:
  return content[: int(len(content) * where)]


def damage_flip(content: bytes, where: float) -> bytes:
  place = int((len(content) - 1) * where)
  return content[:place] + bytes([content[place] ^ 0x10]) + content[place + 1 :]


@pytest.mark.parametrize('damage', [damage_cut, damage_flip])
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
