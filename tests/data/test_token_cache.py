"""The token cache of a large text, in the run's folder."""

import itertools
import json
import os

import numpy as np
import pytest

from minigpt import tokenizers
from minigpt.config import DataConfig
from minigpt.data import text_files, token_cache, training_data
from minigpt.data.sources import UnfitTextError
from minigpt.data.token_shards import TokenShards
from minigpt.errors import InputError
from minigpt.tokenizers.cuts import BEFORE_BLANKS

# Texts begin and end with white space, across which GPT-2's tokens reach.
TEXTS = [
  'The sun \u65e5\u672c\n \n',
  '\n  sets.\r\n\tIt <|user|> is',
  ' late \n',
]


@pytest.fixture
def folder(tmp_path, monkeypatch):
  """A text that counts as large, in plain files and JSON lines."""
  monkeypatch.setattr(token_cache, '_MOST_IN_MEMORY', 0)
  monkeypatch.setattr(token_cache, '_PART', 5)
  for i, text in enumerate(TEXTS * 3):
    path = tmp_path / 'text' / f'{i}.txt'
    path.parent.mkdir(exist_ok=True)
    path.write_text(text, encoding='utf-8', newline='')
  lines = ''.join(json.dumps({'text': text}) + '\n' for text in TEXTS * 2)
  (tmp_path / 'text' / 'z.jsonl').write_text(lines)
  return tmp_path


N_FILES = len(TEXTS * 3) + 1


def read(folder, kind='char', tokenizer=None, cached=True, **options):
  config = DataConfig(str(folder / 'text'), tokenizer=kind, **options)
  size = 262 if kind == 'bpe' else None
  return training_data.read_training_data(
    config,
    4,
    tokenizer,
    vocab_size=size,
    cache=folder / 'tokens' if cached else None,
  )


def read_in_memory(*arguments, **options):
  with pytest.MonkeyPatch.context() as patch:
    patch.setattr(token_cache, '_MOST_IN_MEMORY', 1 << 20)
    return read(*arguments, **options)


def assert_same(found, wanted):
  assert isinstance(found.train.tokens, TokenShards)
  assert isinstance(wanted.train.tokens, np.ndarray)
  assert found.fingerprint == wanted.fingerprint
  assert found.train.tokens.dtype == wanted.train.tokens.dtype
  np.testing.assert_array_equal(found.train.tokens[:], wanted.train.tokens)
  np.testing.assert_array_equal(found.val[:], wanted.val)
  assert found.opening == wanted.opening


@pytest.mark.parametrize('raw_text', [False, True])
@pytest.mark.parametrize('val_fraction', [0.0, 0.1, 0.37, 0.5])
@pytest.mark.parametrize('kind', ['char', 'word', 'gpt2', 'bpe'])
def test_the_tokens_are_those_of_the_whole_text(
  folder, kind, val_fraction, raw_text, request
):
  if kind == 'gpt2':
    request.getfixturevalue('gpt2_tokenizer')  # Or skip the test.
  special = ('<|user|>',) if kind == 'bpe' else ()
  options = dict(val_fraction=val_fraction, raw_text=raw_text, special=special)
  wanted = read_in_memory(folder, kind, **options)
  for cached in (False, True):
    found = read(folder, kind, None, cached, **options)
    assert found.tokenizer.to_json() == wanted.tokenizer.to_json()
    assert_same(found, wanted)
    assert (folder / 'tokens').exists() == cached


@pytest.fixture
def passes(monkeypatch):
  """Counts how often all files of the text are read."""
  counts, documents = [], text_files.documents
  monkeypatch.setattr(
    text_files, 'documents', lambda *a: (counts.append(1), documents(*a))[1]
  )
  return lambda: len(counts) / N_FILES


def test_a_text_that_has_not_changed_is_not_read_again(folder, passes):
  first = read(folder)
  assert passes() == 3
  again = read(folder, 'char', first.tokenizer)
  assert passes() == 3
  np.testing.assert_array_equal(again.val[:], first.val[:])
  assert again.fingerprint == first.fingerprint
  # With another date but the same text, the same tokens are made again.
  os.utime(folder / 'text' / '0.txt', ns=(1, 1))
  assert read(folder, 'char', first.tokenizer).fingerprint == first.fingerprint
  assert passes() == 5
  # The pass that counts characters finds the bad files.
  read(folder, skip_bad_files=True)
  assert passes() == 8
  read_in_memory(folder, skip_bad_files=True)
  assert passes() == 9


def test_a_cache_that_was_changed_is_made_again(folder, passes):
  first = read(folder)
  val = first.val[:]  # The test truncates this file below.
  for name in ('train.npy', 'val.npy', 'cache.json'):
    for content in (b'', b'\0' * 9, None):
      path = folder / 'tokens' / name
      path.unlink() if content is None else path.write_bytes(content)
      again = read(folder, 'char', first.tokenizer)
      np.testing.assert_array_equal(again.val[:], val)
      assert again.fingerprint == first.fingerprint
  assert passes() == 3 + 2 * 9


def test_another_text_or_tokenizer_has_other_tokens(folder):
  first = read(folder)
  words = tokenizers.build('word', ' '.join(TEXTS))
  assert read(folder, 'word', words).fingerprint != first.fingerprint
  (folder / 'text' / '0.txt').write_text('The sets', encoding='utf-8')
  assert read(folder, 'char', first.tokenizer).fingerprint != first.fingerprint
  (folder / 'text' / '1.txt').write_text('Zebra', encoding='utf-8')
  with pytest.raises(
    UnfitTextError, match=r"after the first \d characters, character 'Z'"
  ):
    read(folder, 'char', first.tokenizer)
  assert not (folder / 'tokens').exists()
  assert sorted(p.name for p in folder.iterdir()) == ['text']


def test_a_file_that_is_no_text_leaves_nothing(folder):
  (folder / 'text' / '4.txt').write_bytes(b'caf\xe9')
  with pytest.raises(InputError, match=r'4\.txt is not UTF-8 \(byte 3\)'):
    read(folder)
  assert sorted(p.name for p in folder.iterdir()) == ['text']
  data = read(folder, skip_bad_files=True)
  assert 'caf' not in data.tokenizer.decode(data.train.tokens[:])


def test_parts_are_cut_where_no_token_is():
  text = 'a bc  \n d' * 9
  for step in (1, 3, 50):
    given = [text[i : i + step] for i in range(0, len(text), step)]
    parts = list(text_files.recut(given, 6, BEFORE_BLANKS))
    assert ''.join(parts) == text
    assert len(parts) > 2
    for before, after in itertools.pairwise(parts):
      assert not before[-1].isspace() and after[0] in ' \n'
