"""One writer for a directory."""

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
