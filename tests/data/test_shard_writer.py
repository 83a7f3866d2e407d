"""Writing shards, and errors in the text."""

import gzip
import json

import pytest

from minigpt import tokenizers
from minigpt.data import shard_writer, text_files, token_shards
from minigpt.errors import InputError
from minigpt.tokenizers.cuts import ANYWHERE


@pytest.mark.parametrize(
  'name, content, match',
  [
    ('a.txt', b'ok \xff\xff ok', 'a.txt is not UTF-8'),
    ('a.jsonl', b'{"text": "ok"}\n{"test": 1}', "a.jsonl, line 2: .*'text'"),
    ('a.jsonl', b'{"text": 7}', 'line 1'),
    ('a.jsonl', b'{"text": "\\ud800"}', 'line 1'),
    ('a.jsonl', b'[' * 100000, 'line 1'),
    ('a.txt.gz', b'no gzip', 'a.txt.gz: Not a gzipped file'),
    ('a.txt.gz', gzip.compress(b'x' * 100, mtime=0)[:-9], 'a.txt.gz: '),
  ],
)
def test_faults_of_the_text_name_the_file(
  tokenizer, tmp_path, name, content, match
):
  (tmp_path / name).write_bytes(content)
  tokenizers.save(tokenizer, tmp_path / 'tokenizer.json')
  [part] = text_files.split_file(str(tmp_path / name), 1 << 20, ANYWHERE)
  with pytest.raises(InputError, match=match):
    shard_writer.write_shard([part], tmp_path, 0, 'uint8')
  assert not list(tmp_path.glob('*shard*'))


@pytest.mark.parametrize(
  'sidecar',
  [
    {'name': '../precious.npy', 'n_tokens': 0},
    {'name': 'precious.npy', 'n_tokens': 0},
    {'name': 'shard-00000.npy', 'n_tokens': 10**9},
    {'name': 'shard-00000.npy', 'n_tokens': -1},
    {'name': ['shard-00000.npy'], 'n_tokens': 3},
    {},
  ],
)
def test_a_sidecar_is_not_trusted(tokenizer, tmp_path, sidecar):
  """It may be another program's, or written by half."""
  (tmp_path / 'precious.npy').write_text('x')
  folder = tmp_path / 'out'
  folder.mkdir()
  (folder / 'precious.npy').write_text('x')
  (tmp_path / 'a.txt').write_text('late left')
  tokenizers.save(tokenizer, folder / 'tokenizer.json')
  [part] = text_files.split_file(str(tmp_path / 'a.txt'), 1 << 20, ANYWHERE)
  wanted = shard_writer.write_shard([part], folder, 0, 'uint8')
  assert wanted.n_tokens > 1
  fields = {'crc32': 0, 'n_documents': 1, **sidecar} if sidecar else {}
  (folder / 'shard-00000.json').write_text(json.dumps(fields))
  found = shard_writer.write_shard([part], folder, 0, 'uint8')
  assert found == wanted
  shard_writer.write_manifest(folder, [found], tokenizer, 'uint8')
  assert (tmp_path / 'precious.npy').exists()
  assert (folder / 'precious.npy').exists()
  assert len(token_shards.open_tokens(folder)) == wanted.n_tokens
