""".npy files of token ids, verified once."""

import json
import os

import numpy as np
import pytest

from minigpt import tokenizers
from minigpt.config import DataConfig
from minigpt.data import token_file, training_data
from minigpt.errors import InputError

IDS = np.arange(1000) % 7
TOKENIZER = tokenizers.build('char', 'abcdefg')


@pytest.fixture
def reads(monkeypatch):
  """Collects the files that are read as a whole."""
  found, read = [], token_file.read_content
  monkeypatch.setattr(
    token_file, 'read_content', lambda *a: (found.append(a), read(*a))[1]
  )
  return found


def read(path, cache, val_fraction=0.1):
  config = DataConfig(str(path), val_fraction=val_fraction)
  return training_data.read_training_data(config, 8, TOKENIZER, cache=cache)


@pytest.mark.parametrize('dtype', ['u1', '<i8', '>u2'])
@pytest.mark.parametrize('val_fraction', [0.0, 0.1])
def test_a_file_that_has_not_changed_is_not_read_again(
  tmp_path, reads, dtype, val_fraction
):
  path, cache = tmp_path / 'ids.npy', tmp_path / 'tokens'
  np.save(path, IDS.astype(dtype))
  wanted = read(path, None, val_fraction)
  for _ in range(2):
    found = read(path, cache, val_fraction)
    assert found.fingerprint == wanted.fingerprint
    np.testing.assert_array_equal(found.train.tokens[:], wanted.train.tokens)
    np.testing.assert_array_equal(found.val[:], wanted.val)
  n_times = 1 if val_fraction else 2
  assert len(reads) == n_times
  # The same size and date, but another content.
  before = os.stat(path)
  np.save(path, IDS[::-1].astype(dtype))
  os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
  found = read(path, cache, val_fraction)
  assert found.fingerprint == read(path, None, val_fraction).fingerprint
  assert len(reads) == 2 * n_times
  # The result for one copy is not valid for two.
  read(path, cache, 0.1 - val_fraction)
  assert len(reads) > 2 * n_times


@pytest.mark.parametrize('wrong', [7, -1])
def test_an_id_that_the_vocabulary_lacks_is_found_each_time(tmp_path, wrong):
  path, cache = tmp_path / 'ids.npy', tmp_path / 'tokens'
  np.save(path, np.where(np.arange(1000) == 500, wrong, IDS))
  for _ in range(2):
    with pytest.raises(InputError, match=f'id {wrong} at position 500 is out'):
      read(path, cache)


def test_findings_that_are_none_are_made_again(tmp_path, reads):
  path, cache = tmp_path / 'ids.npy', tmp_path / 'tokens'
  np.save(path, IDS)
  wanted = read(path, cache).fingerprint
  for content in ('', '[]', json.dumps({'ids.npy': [[], []]})):
    (cache / 'checked.json').write_text(content)
    assert read(path, cache).fingerprint == wanted
  assert len(reads) == 4
