"""Files are split where no token is, and their faults named."""

import gzip

import pytest

from minigpt import tokenizers
from minigpt.data import shard_writer
from minigpt.errors import InputError


def test_files_are_split_where_no_token_is(story, tmp_path):
  path = tmp_path / 'text.txt'
  path.write_text(story, encoding='utf-8')
  content = path.read_bytes()
  found = shard_writer.split_file(str(path), 40)
  assert len(found) > 30
  assert b''.join(content[p.start : p.stop] for p in found) == content
  for part in found[1:]:
    assert chr(content[part.start - 1]).isascii()
    assert not chr(content[part.start - 1]).isspace()
    assert content[part.start : part.start + 1] in (b' ', b'\n')
  assert [p.ends_document for p in found[-2:]] == [False, True]


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
  [part] = shard_writer.split_file(str(tmp_path / name), 1 << 20)
  with pytest.raises(InputError, match=match):
    shard_writer.write_shard(part, tmp_path, 0, 'uint8')
  assert not list(tmp_path.glob('*shard*'))
