"""Text files of every supported kind, and their tokens."""

import gzip
import json

import pytest

from minigpt import tokenizers
from minigpt.data.corpus import input_paths, prepare

STORY = (
  'It was late\u3000\u2026 \nand "caf\u00e9" closed, \U0001f600 so we  left.\n'
  * 50
)
LINES = ['first one', 'a \u00e9 b', 'left.\nIt was late']


@pytest.fixture(scope='session')
def corpus(tmp_path_factory):
  folder = tmp_path_factory.mktemp('text')
  (folder / 'a.txt').write_text(STORY, encoding='utf-8')
  (folder / 'b.txt').write_text('')
  lines = ''.join(json.dumps({'text': line}) + '\n' for line in LINES)
  (folder / 'c.jsonl').write_text(lines + '\n')
  (folder / 'd.jsonl.gz').write_bytes(gzip.compress(lines.encode(), mtime=0))
  (folder / 'e.txt.gz').write_bytes(gzip.compress(STORY.encode(), mtime=0))
  return folder


@pytest.fixture(scope='session')
def tokenizer():
  return tokenizers.build('word', STORY + ' '.join(LINES))


@pytest.fixture(scope='session')
def corpus_paths(corpus):
  return input_paths([f'{corpus}/*'])


@pytest.fixture(scope='session')
def documents():
  """The texts of the corpus, in the order of the files."""
  return [STORY, '', *LINES, *LINES, STORY]


@pytest.fixture(scope='session')
def story():
  return STORY


@pytest.fixture(scope='session')
def tokens(corpus_paths, tokenizer, tmp_path_factory):
  """The token directory of the corpus."""
  folder = tmp_path_factory.mktemp('tokens')
  prepare(corpus_paths, tokenizer, folder, 2, 300)
  return folder
