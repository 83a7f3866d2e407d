"""Locks of folders."""

import errno
import fcntl
import os
from pathlib import Path

import pytest

from minigpt.errors import InputError
from minigpt.runtime import lock


def test_a_lock_leaves_no_folder_where_nothing_was_written(tmp_path):
  with lock.held(tmp_path / 'new', 'workdir'):
    pass
  assert not (tmp_path / 'new').exists()
  refused = pytest.raises(InputError, match='choose another --workdir')
  with refused, lock.held(Path('/proc/nowhere'), 'workdir'):
    pass


def test_a_second_holder_is_told_of_the_first(tmp_path):
  refused = pytest.raises(InputError, match=f'by process {os.getpid()};')
  with lock.held(tmp_path, 'workdir'), refused, lock.held(tmp_path, 'workdir'):
    pass


@pytest.mark.parametrize('name', ['link', 'pipe', 'folder'])
def test_a_lock_that_is_no_file_is_refused_and_left_alone(tmp_path, name):
  """Another user's folder may contain such a thing."""
  target = tmp_path / 'target'
  target.write_text('precious')
  path = tmp_path / 'run' / 'lock'
  path.parent.mkdir()
  if name == 'link':
    path.symlink_to(target)
  elif name == 'pipe':
    os.mkfifo(path)
  else:
    path.mkdir()
  refused = pytest.raises(InputError, match=r'run/lock cannot be written \(')
  with refused, lock.held(tmp_path / 'run', 'workdir'):
    pass
  assert target.read_text() == 'precious'
  assert path.is_symlink() or path.exists()


def test_a_dangling_lock_creates_nothing(tmp_path):
  (tmp_path / 'lock').symlink_to(tmp_path / 'target')
  with pytest.raises(InputError), lock.held(tmp_path, 'workdir'):
    pass
  assert not (tmp_path / 'target').exists()


def test_a_folder_that_was_renamed_is_noticed_and_left_alone(tmp_path):
  with lock.held(tmp_path / 'run', 'workdir') as held:
    held.check()
    (tmp_path / 'run').rename(tmp_path / 'moved')
    with pytest.raises(InputError, match='run was renamed or deleted'):
      held.check()
    # Another process takes the name.
    with lock.held(tmp_path / 'run', 'workdir') as other:
      assert not held.holds()
      held.release()
      other.check()
  assert not (tmp_path / 'run').exists()
  assert (tmp_path / 'moved' / 'lock').exists()


def test_nothing_is_written_after_the_end(tmp_path):
  with lock.held(tmp_path, 'workdir') as held:
    pass
  with pytest.raises(InputError, match='open the run again'):
    held.check()


@pytest.mark.parametrize('number', [errno.ENOSYS, errno.ENOLCK])
def test_a_file_system_without_locks_is_named(tmp_path, monkeypatch, number):
  def flock(file, how):
    raise OSError(number, os.strerror(number))

  monkeypatch.setattr(fcntl, 'flock', flock)
  message = f'without locks .flock: {os.strerror(number)}.* local disk'
  with pytest.raises(InputError, match=message), lock.held(tmp_path, 'workdir'):
    pass
