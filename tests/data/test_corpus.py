"""A corpus becomes a token directory, even after crashes."""

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
from minigpt.data import corpus, shard_writer, text_files, token_shards
from minigpt.data.corpus import make_tokenizer, prepare
from minigpt.errors import UsageError

ROOT = Path(__file__).parents[2]


def test_tokens_are_those_of_the_documents_each_with_its_end(
  tokens, tokenizer, documents
):
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


def test_a_killed_preparation_goes_on(story, tokenizer, tmp_path):
  tokenizers.save(tokenizer, tmp_path / 'words.json')
  big = tmp_path / 'big.txt'
  big.write_text(story * 300, encoding='utf-8')
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
  time.sleep(1)  # The workers notice that their parent has ended.
  made = {p: os.stat(p).st_mtime_ns for p in folder.glob('shard-*.npy')}
  assert made and not (folder / 'manifest.json').exists()
  prepare([str(big)], tokenizer, folder, 2, 1 << 16)
  kept = [p for p, time_ in made.items() if os.stat(p).st_mtime_ns == time_]
  assert kept
  expected = [*tokenizer.encode(story * 300), tokenizer.end_of_text]
  np.testing.assert_array_equal(token_shards.open_tokens(folder)[:], expected)
  assert not list(folder.glob('.tmp-*'))


def test_small_files_share_shards(tokenizer, tmp_path):
  texts = [f'late {"left " * (i % 7)}' for i in range(300)]
  for i, text in enumerate(texts):
    (tmp_path / f'{i:03}.txt').write_text(text)
  paths = [str(tmp_path / f'{i:03}.txt') for i in range(300)]
  folder = tmp_path / 'out'
  folder.mkdir()
  manifest = prepare(paths, tokenizer, folder, 2, 2000)
  assert sum(map(len, texts)) == 5985 and len(manifest.shards) == 4
  expected = np.concatenate(
    [[*tokenizer.encode(text), tokenizer.end_of_text] for text in texts]
  )
  np.testing.assert_array_equal(token_shards.open_tokens(folder)[:], expected)
  assert sum(shard.n_documents for shard in manifest.shards) == 300


def test_what_another_layout_has_begun_is_made_again(
  corpus_paths, tokenizer, tokens, tmp_path, monkeypatch
):
  monkeypatch.setattr(corpus, '_LAYOUT', 3)
  corpus._begin(corpus_paths, tokenizer, tmp_path, 300)
  monkeypatch.undo()
  # It looks finished, but is of another range of the text.
  ranges = [text_files.whole_file(path) for path in corpus_paths]
  stale = [
    shard_writer.write_shard(ranges, tmp_path, i, 'uint8') for i in (0, 99)
  ]
  assert len(stale) == 2
  prepare(corpus_paths, tokenizer, tmp_path, 1, 300)
  whole = token_shards.open_tokens(tokens)[:]
  np.testing.assert_array_equal(token_shards.open_tokens(tmp_path)[:], whole)
  assert not (tmp_path / 'shard-00099.npy').exists()


def test_other_text_or_a_finished_directory_is_refused(
  corpus_paths, tokenizer, tokens, tmp_path
):
  with pytest.raises(UsageError, match='holds tokens already'):
    prepare(corpus_paths, tokenizer, tokens, 1, 300)
  for content in (b'{}', b'\xff'):
    (tmp_path / 'plan.json').write_bytes(content)
    with pytest.raises(UsageError, match='holds part of other text'):
      prepare(corpus_paths, tokenizer, tmp_path, 1, 300)


@pytest.mark.parametrize('kind', ['char', 'word', 'bpe'])
def test_a_vocabulary_is_learned_in_a_pass_of_its_own(
  corpus_paths, documents, kind, tmp_path
):
  options = {'vocab_size': 270} if kind == 'bpe' else {}
  tokenizer = make_tokenizer(kind, corpus_paths, **options)
  whole = tokenizers.build(kind, '\n'.join(documents), **options)
  if kind != 'bpe':  # The vocabulary includes the line feeds.
    assert tokenizer.to_json() == whole.to_json()
  prepare(corpus_paths, tokenizer, tmp_path, 1, 1 << 20)
  found = token_shards.open_tokens(tmp_path)
  end = '\n' if kind == 'char' else tokenizer.decode([tokenizer.end_of_text])
  text = ''.join(document + end for document in documents)
  assert tokenizer.decode(found[:]) == text


def test_characters_are_set_apart_by_a_line_feed_that_no_text_has(tmp_path):
  paths = [str(tmp_path / f'{name}.txt') for name in ('ab', 'cd')]
  for path in paths:
    Path(path).write_text(Path(path).stem)
  tokenizer = make_tokenizer('char', paths)
  assert tokenizer.characters == '\nabcd'
  prepare(paths, tokenizer, tmp_path, 1, 1 << 20)
  found = token_shards.open_tokens(tmp_path)
  assert tokenizer.decode(found[:]) == 'ab\ncd\n'


def test_a_tokenizer_must_be_able_to_end_a_text(tmp_path):
  tokenizers.save(tokenizers.build('char', 'abc'), tmp_path / 'c.json')
  with pytest.raises(UsageError, match='no end-of-text'):
    make_tokenizer(str(tmp_path / 'c.json'))
  with pytest.raises(UsageError, match="unknown tokenizer 'chars'"):
    make_tokenizer('chars')


def test_preparing_does_without_tensorflow():
  """TensorFlow would take half a gigabyte in each process, and seconds."""
  code = (
    'import sys, minigpt.commands.prepare\n'
    'sys.exit("tensorflow" in sys.modules)'
  )
  assert subprocess.run([sys.executable, '-c', code], cwd=ROOT).returncode == 0
