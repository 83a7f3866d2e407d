"""Files and folders that are whole or absent."""

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
  refused = pytest.raises(InputError, match='is there already')
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
