"""Atomic files and folders."""

import os
import stat

import pytest

from minigpt.errors import InputError
from minigpt.runtime import atomic_io


def names(folder):
  return sorted(path.name for path in folder.iterdir())


def full_disk(path):
  raise OSError(28, 'No space left on device')


def test_a_file_is_replaced(tmp_path):
  atomic_io.write_text(tmp_path / 'a', 'old')
  atomic_io.write_text(str(tmp_path / 'a'), 'n\u00e9w')
  assert (tmp_path / 'a').read_bytes() == 'n\u00e9w'.encode()
  assert names(tmp_path) == ['a']


def test_a_full_disk_leaves_the_file_as_it_was(tmp_path, monkeypatch):
  atomic_io.write_text(tmp_path / 'a', 'old')
  monkeypatch.setattr(atomic_io, 'fsync', full_disk)
  with pytest.raises(InputError, match=r'a could not be written \(No space'):
    atomic_io.write_text(tmp_path / 'a', 'new')
  assert (tmp_path / 'a').read_text() == 'old'
  assert names(tmp_path) == ['a']


def test_a_folder_appears_when_it_is_whole(tmp_path):
  with atomic_io.new_folder(tmp_path / 'in' / 'a') as scratch:
    (scratch / 'part').write_text('x')
    assert not (tmp_path / 'in' / 'a').exists()
  assert names(tmp_path / 'in') == ['a']
  assert (tmp_path / 'in' / 'a' / 'part').read_text() == 'x'


def test_a_folder_that_exists_is_refused_untouched(tmp_path):
  refused = pytest.raises(InputError, match='exists already')
  with refused, atomic_io.new_folder(tmp_path):
    pytest.fail('it was yielded')


@pytest.mark.parametrize(
  ('error', 'raised'),
  [
    (OSError(28, 'No space left on device'), InputError),
    (LookupError('no such key'), InputError),
    (ZeroDivisionError(), ZeroDivisionError),
  ],
  ids=['of the system', 'named', 'a bug'],
)
def test_a_failure_leaves_no_folder_behind(tmp_path, error, raised):
  new = atomic_io.new_folder(tmp_path / 'a', (LookupError,))
  with pytest.raises(raised), new as scratch:
    (scratch / 'part').write_text('x')
    raise error
  assert names(tmp_path) == []


def test_a_folder_is_deleted_with_its_content(tmp_path):
  (tmp_path / 'a' / 'b').mkdir(parents=True)
  (tmp_path / 'a' / 'b' / 'part').write_text('x')
  atomic_io.delete_folder(tmp_path / 'a')
  assert names(tmp_path) == []


def test_what_killed_writers_left_is_swept(tmp_path):
  (tmp_path / '.tmp-a-1').mkdir()
  (tmp_path / '.tmp-b-1').write_text('')
  (tmp_path / 'tmp').write_text('')
  atomic_io.sweep(tmp_path)
  assert names(tmp_path) == ['tmp']


def test_the_size_of_a_folder_is_that_of_all_its_files(tmp_path):
  (tmp_path / 'a').mkdir()
  (tmp_path / 'a' / 'one').write_text('123')
  (tmp_path / 'two').write_text('4567')
  assert atomic_io.folder_size(tmp_path) == 7


def test_writers_of_one_process_number_do_not_meet(tmp_path, monkeypatch):
  """In two containers that share a volume, each is process 1."""
  monkeypatch.setattr(os, 'getpid', lambda: 1)
  (tmp_path / '.tmp-a-1').mkdir()  # One writer was killed here.
  refused = pytest.raises(InputError, match='could not be written')
  with refused, atomic_io.new_folder(tmp_path / 'a') as first:
    (first / 'part').write_text('first')
    with atomic_io.new_folder(tmp_path / 'a') as second:
      (second / 'part').write_text('second')
    assert (first / 'part').read_text() == 'first'
  assert (tmp_path / 'a' / 'part').read_text() == 'second'
  with atomic_io.new_file(tmp_path / 'b') as one:
    one.write_text('one')
    with atomic_io.new_file(tmp_path / 'b') as two:
      two.write_text('two')
  assert (tmp_path / 'b').read_text() == 'one'
  assert names(tmp_path) == ['.tmp-a-1', 'a', 'b']


def test_what_is_written_may_be_read_by_others(tmp_path):
  """A model's server is another user; temporary files are private."""
  before = os.umask(0o022)
  try:
    atomic_io.write_text(tmp_path / 'a', 'x')
    with atomic_io.new_folder(tmp_path / 'b'):
      pass
  finally:
    os.umask(before)
  assert stat.S_IMODE((tmp_path / 'a').stat().st_mode) == 0o644
  assert stat.S_IMODE((tmp_path / 'b').stat().st_mode) == 0o755


def test_nothing_is_written_or_deleted_through_a_link(tmp_path):
  (tmp_path / 'precious').mkdir()
  (tmp_path / 'precious' / 'file').write_text('x')
  (tmp_path / 'folder').symlink_to('precious')
  (tmp_path / 'log').symlink_to('precious/file')
  (tmp_path / 'new').symlink_to('precious/new')
  (tmp_path / '.tmp-c-1').symlink_to('precious')
  for name in ('log', 'new'):
    with pytest.raises(OSError, match='symbolic links'):
      atomic_io.open_to_append(tmp_path / name)
  os.mkfifo(tmp_path / 'pipe')
  with pytest.raises(OSError):
    atomic_io.open_to_append(tmp_path / 'pipe')
  atomic_io.write_text(tmp_path / 'log', 'y')
  atomic_io.delete_folder(tmp_path / 'folder')
  atomic_io.sweep(tmp_path)
  assert names(tmp_path / 'precious') == ['file']
  assert (tmp_path / 'precious' / 'file').read_text() == 'x'
  assert names(tmp_path) == ['log', 'new', 'pipe', 'precious']


def test_a_log_is_appended_to(tmp_path):
  for line in ('one\n', 'two\n'):
    with atomic_io.open_to_append(tmp_path / 'log') as file:
      file.write(line)
  assert (tmp_path / 'log').read_text() == 'one\ntwo\n'
