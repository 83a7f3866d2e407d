"""The text on which a model is evaluated, in memory or cached."""

import numpy as np
import pytest

from minigpt import tokenizers
from minigpt.config import DataConfig
from minigpt.data import measured_text, token_cache, training_data
from minigpt.data.token_shards import TokenShards
from minigpt.errors import InputError

TEXT = 'The caf\u00e9 \u65e5\u672c\u3002It is late\r\n' * 9 + 'and new'


@pytest.fixture
def config(tmp_path):
  (tmp_path / 'a.txt').write_text(TEXT, encoding='utf-8', newline='')
  return DataConfig(str(tmp_path / '*.txt'), val_fraction=0.3)


@pytest.fixture
def large(monkeypatch):
  """Makes the text count as large."""

  def make():
    monkeypatch.setattr(token_cache, '_MOST_IN_MEMORY', 0)
    monkeypatch.setattr(token_cache, '_PART', 7)

  return make


def assert_same(found, wanted):
  np.testing.assert_array_equal(found.tokens[:], wanted.tokens)
  assert found.tokens.dtype.itemsize == 1


@pytest.mark.parametrize('limit', [0, 1, 20])
@pytest.mark.parametrize('val_fraction', [0.0, 0.3])
@pytest.mark.parametrize('known', ['The is late.\n', TEXT])
def test_a_large_text_has_the_tokens_and_bytes_that_it_has_in_memory(
  config, large, known, val_fraction, limit
):
  config = DataConfig(config.dataset, val_fraction=val_fraction)
  tokenizer = tokenizers.build('word', known)
  wanted = measured_text.read(config, tokenizer, limit=limit)
  large()
  found = measured_text.read(config, tokenizer, limit=limit)
  assert found.n_bytes == wanted.n_bytes
  assert_same(found, wanted)


def test_the_tokens_of_a_run_are_taken_where_they_are(
  config, large, tmp_path, monkeypatch
):
  tokenizer = tokenizers.build('char', TEXT)
  wanted = measured_text.read(config, tokenizer)
  large()
  folder = tmp_path / 'tokens'
  training_data.read_training_data(config, 4, tokenizer, cache=folder)
  with monkeypatch.context() as patch:
    patch.setattr(measured_text, 'LargeText', None)  # The text is not read.
    found = measured_text.read(config, tokenizer, folder)
  assert isinstance(found.tokens, TokenShards) and found.n_bytes is None
  assert_same(found, wanted)
  (folder / 'val.npy').unlink()
  found = measured_text.read(config, tokenizer, folder)
  assert_same(found, wanted)
  assert not (folder / 'val.npy').exists()  # The cache is not written.


def test_a_disk_without_room_for_a_while_gets_one_line(
  config, large, tmp_path, monkeypatch
):
  large()
  monkeypatch.setattr('tempfile.tempdir', str(tmp_path / 'none'))
  with pytest.raises(InputError, match=r'No such file.*TMPDIR'):
    measured_text.read(config, tokenizers.build('char', TEXT))
