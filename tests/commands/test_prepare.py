"""Token directories: how they are made, and read."""

import gzip
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from minigpt import tokenizers
from minigpt.config import DataConfig
from minigpt.data import shard_writer, sources, token_shards
from minigpt.data.corpus import input_paths, make_tokenizer, prepare
from minigpt.errors import InputError, UsageError

ROOT = Path(__file__).parents[2]
STORY = (
  'It was late\u3000\u2026 \nand "caf\u00e9" closed, \U0001f600 so we  left.\n'
  * 50
)
LINES = ['first one', 'a \u00e9 b', 'left.\nIt was late']


@pytest.fixture(scope='module')
def source(tmp_path_factory):
  folder = tmp_path_factory.mktemp('text')
  (folder / 'a.txt').write_text(STORY, encoding='utf-8')
  (folder / 'b.txt').write_text('')
  lines = ''.join(json.dumps({'text': line}) + '\n' for line in LINES)
  (folder / 'c.jsonl').write_text(lines + '\n')
  (folder / 'd.jsonl.gz').write_bytes(gzip.compress(lines.encode(), mtime=0))
  (folder / 'e.txt.gz').write_bytes(gzip.compress(STORY.encode(), mtime=0))
  return folder


@pytest.fixture(scope='module')
def tokenizer():
  return tokenizers.build('word', STORY + ' '.join(LINES))


def paths_of(folder):
  return input_paths([f'{folder}/*'])


@pytest.fixture(scope='module')
def tokens(source, tokenizer, tmp_path_factory):
  folder = tmp_path_factory.mktemp('tokens')
  prepare(paths_of(source), tokenizer, folder, 2, 300)
  return folder


def test_tokens_are_those_of_the_documents_each_with_its_end(tokens, tokenizer):
  documents = [STORY, '', *LINES, *LINES, STORY]
  expected = [
    part
    for document in documents
    for part in (tokenizer.encode(document), [tokenizer.end_of_text])
  ]
  found = token_shards.open_tokens(tokens)
  np.testing.assert_array_equal(found[:], np.concatenate(expected))
  assert found.dtype == np.uint8
  manifest = json.loads((tokens / 'manifest.json').read_text())
  assert manifest['n_documents'] == len(documents)
  assert manifest['n_tokens'] == len(found)
  assert len(manifest['shards']) > 8
  assert {p.suffix for p in tokens.iterdir()} == {'.npy', '.json'}
  assert not list(tokens.glob('shard-*.json'))


def test_pieces_are_cut_where_no_token_is(tmp_path):
  path = tmp_path / 'text.txt'
  path.write_text(STORY, encoding='utf-8')
  content = path.read_bytes()
  found = shard_writer.cut(str(path), 40)
  assert len(found) > 30
  assert b''.join(content[p.start : p.stop] for p in found) == content
  for piece in found[1:]:
    assert chr(content[piece.start - 1]).isascii()
    assert not chr(content[piece.start - 1]).isspace()
    assert content[piece.start : piece.start + 1] in (b' ', b'\n')
  assert [p.ends_document for p in found[-2:]] == [False, True]


def test_shards_index_like_one_array():
  whole = np.arange(23, dtype=np.uint16)
  found = token_shards.TokenShards([whole[:5], whole[5:6], whole[6:]])
  np.testing.assert_array_equal(found[:], whole)
  np.testing.assert_array_equal(found[3:9], whole[3:9])
  places = np.array([[0, 4, 5], [6, 22, 4]])
  np.testing.assert_array_equal(found[places], whole[places])
  part = found.part(4, 20).part(1, 10)
  assert len(part) == 9
  np.testing.assert_array_equal(part[:], whole[5:14])
  np.testing.assert_array_equal(part[np.array([0, 8])], [5, 13])
  assert part[2] == 7
  assert part.crc32 != found.crc32
  with pytest.raises(IndexError):
    part[np.array([9])]


def test_windows_and_fingerprints_of_a_token_directory(tokens):
  split = sources.read_split(DataConfig(dataset=str(tokens), val_fraction=0.25))
  whole = token_shards.open_tokens(tokens)[:]
  n = len(split.train)
  assert n == int(len(whole) * 0.75)
  windows = sources.make_windows(split.train, 7, 0, 256)
  starts = np.array([[0, n - 8], [290, 5]])
  expected = whole[starts[..., None] + np.arange(8)]
  np.testing.assert_array_equal(windows.at(starts), expected)
  found = sources.fingerprint(split.train, split.val)
  assert found.n_tokens == len(whole)
  assert found != sources.fingerprint(split.val, split.train)


def test_the_tokenizer_comes_with_the_tokens(tokens):
  given = {'dataset': str(tokens)}
  assert sources.given_tokenizer(given)['tokenizer'] == 'word'
  assert sources.given_tokenizer({'dataset': 'sample'}) == {'dataset': 'sample'}
  with pytest.raises(UsageError, match='were made with word'):
    sources.given_tokenizer({**given, 'tokenizer': 'char'})


def test_a_killed_preparation_goes_on(source, tokenizer, tokens, tmp_path):
  tokenizers.save(tokenizer, tmp_path / 'words.json')
  big = tmp_path / 'big.txt'
  big.write_text(STORY * 300, encoding='utf-8')
  folder = tmp_path / 'out'
  command = [
    sys.executable,
    '-c',
    'from pathlib import Path\n'
    'from minigpt.data.corpus import *\n'
    'if __name__ == "__main__":\n'
    f'  prepare([{str(big)!r}], make_tokenizer({str(tmp_path)!r} '
    f'+ "/words.json"), Path({str(folder)!r}), 2, 1 << 16)\n',
  ]
  folder.mkdir()
  with subprocess.Popen(command, cwd=ROOT, stderr=subprocess.DEVNULL) as first:
    deadline = time.monotonic() + 60
    while not list(folder.glob('shard-*.json')):
      assert time.monotonic() < deadline and first.poll() is None
      time.sleep(0.01)
    first.send_signal(signal.SIGKILL)
  time.sleep(1)  # Its workers notice and leave.
  made = {p: os.stat(p).st_mtime_ns for p in folder.glob('shard-*.npy')}
  assert made and not (folder / 'manifest.json').exists()
  prepare([str(big)], tokenizer, folder, 2, 1 << 16)
  kept = [p for p, time_ in made.items() if os.stat(p).st_mtime_ns == time_]
  assert kept
  expected = [*tokenizer.encode(STORY * 300), tokenizer.end_of_text]
  np.testing.assert_array_equal(token_shards.open_tokens(folder)[:], expected)
  assert not list(folder.glob('.tmp-*'))


def test_other_text_or_a_finished_directory_is_refused(
  source, tokenizer, tokens, tmp_path
):
  with pytest.raises(UsageError, match='holds tokens already'):
    prepare(paths_of(source), tokenizer, tokens, 1, 300)
  (tmp_path / 'plan.json').write_text('{}')
  with pytest.raises(UsageError, match='holds part of other text'):
    prepare(paths_of(source), tokenizer, tmp_path, 1, 300)


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
  [piece] = shard_writer.cut(str(tmp_path / name), 1 << 20)
  with pytest.raises(InputError, match=match):
    shard_writer.write_shard(piece, tmp_path, 0, 'uint8')
  assert not list(tmp_path.glob('*shard*'))


def test_damaged_directories_are_refused(tokens, tmp_path):
  copy = tmp_path / 'copy'
  copy.mkdir()
  for path in tokens.iterdir():
    (copy / path.name).write_bytes(path.read_bytes())
  shard = copy / 'shard-00003.npy'
  content = shard.read_bytes()
  shard.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
  with pytest.raises(InputError, match=r'shard-00003.npy is damaged'):
    token_shards.open_tokens(copy)
  shard.write_bytes(content[:-1])
  with pytest.raises(InputError, match=r'shard-00003.npy'):
    token_shards.open_tokens(copy)
  manifest = copy / 'manifest.json'
  fields = json.loads(manifest.read_text())
  fields['shards'][0]['name'] = '../shard-00000.npy'
  manifest.write_text(json.dumps(fields))
  with pytest.raises(InputError, match='is not a manifest'):
    token_shards.open_tokens(copy)


def test_a_tokenizer_must_be_able_to_end_a_text(tmp_path):
  tokenizers.save(tokenizers.build('char', 'abc'), tmp_path / 'c.json')
  with pytest.raises(UsageError, match='no end-of-text'):
    make_tokenizer(str(tmp_path / 'c.json'))
  with pytest.raises(UsageError, match="unknown tokenizer 'char'"):
    make_tokenizer('char')


def test_preparing_does_without_tensorflow():
  """Half a gigabyte in each process, and seconds before the first line."""
  code = 'import sys, minigpt.commands.prepare; sys.exit("tensorflow" in sys.modules)'
  assert subprocess.run([sys.executable, '-c', code], cwd=ROOT).returncode == 0
