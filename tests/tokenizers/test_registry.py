"""Tokenizers as files: written whole, read with clear errors."""

import json
import os
import re

import numpy as np
import pytest

from minigpt import tokenizers
from minigpt.errors import InputError, UsageError
from minigpt.runtime import atomic_io
from minigpt.tokenizers.word import WordTokenizer

END = ['<|unk|>', '<|eos|>']


@pytest.mark.parametrize('kind', ['char', 'word', 'gpt2'])
def test_saved_tokenizer_loads_the_same(mixed, kind, request, tmp_path):
  if kind == 'gpt2':
    request.getfixturevalue('gpt2_tokenizer')
  tokenizer = tokenizers.build(kind, mixed)
  path = tmp_path / 'tokenizer.json'
  tokenizers.save(tokenizer, path)
  assert os.listdir(tmp_path) == ['tokenizer.json']
  loaded = tokenizers.load(path)
  assert type(loaded) is type(tokenizer)
  assert loaded.to_json() == tokenizer.to_json()
  assert loaded.to_json()['kind'] == kind
  np.testing.assert_array_equal(loaded.encode(mixed), tokenizer.encode(mixed))
  assert tokenizer.assets()['tokenizer.json'] == path.read_bytes()


def test_failed_save_leaves_the_old_file(tmp_path, monkeypatch):
  path = tmp_path / 'tokenizer.json'
  tokenizers.save(tokenizers.build('char', 'old'), path)
  before = path.read_bytes()

  def full_disk(*_):
    raise OSError(28, 'No space left on device')

  monkeypatch.setattr(atomic_io, 'fsync', full_disk)
  with pytest.raises(InputError, match='No space left'):
    tokenizers.save(tokenizers.build('char', 'new'), path)
  assert path.read_bytes() == before
  assert os.listdir(tmp_path) == ['tokenizer.json']


@pytest.mark.parametrize(
  ('content', 'fault'),
  [
    ('', 'is not JSON'),
    ('\ud800', 'is not JSON'),
    ('[' * 100_000, 'is not JSON'),
    ('[]', 'is not a JSON object'),
    ({'characters': 'ab'}, "'kind' must be one of"),
    ({'kind': ['char']}, "'kind' must be one of"),
    ({'kind': 'bytes'}, "'kind' must be one of"),
    ({'kind': 'char'}, 'has the fields'),
    ({'kind': 'char', 'characters': 'ab', 'x': 1}, 'has the fields'),
    ({'kind': 'char', 'characters': ['a', 'b']}, 'must be a string'),
    ({'kind': 'char', 'characters': ''}, 'must be a string'),
    ({'kind': 'char', 'characters': 'ba'}, 'sorted and without repeats'),
    ({'kind': 'char', 'characters': 'aab'}, 'sorted and without repeats'),
    ({'kind': 'char', 'characters': 'a\udc80'}, 'lone surrogate'),
    ({'kind': 'char', 'characters': 'ab', 'unknown': '\ufffd'}, 'U+FFFD'),
    ({'kind': 'char', 'characters': 'ab', 'unknown': 'a'}, 'U+FFFD'),
    ({'kind': 'word', 'words': 'ab'}, 'must be a list that ends'),
    ({'kind': 'word', 'words': ['a', '<|unk|>']}, 'must be a list that ends'),
    ({'kind': 'word', 'words': END}, 'at least one word'),
    ({'kind': 'word', 'words': ['a', 7, *END]}, 'entry 1 is not one word: 7'),
    ({'kind': 'word', 'words': ['a b', *END]}, 'entry 0 is not one word'),
    ({'kind': 'word', 'words': ['a', *END, *END]}, 'entry 1 is not one'),
    ({'kind': 'word', 'words': ['a', 'b', 'a', *END]}, 'entry 2 comes twice'),
    ({'kind': 'word', 'words': ['\ud800', *END]}, 'lone surrogate'),
    ({'kind': 'gpt2', 'path': '/etc/passwd'}, 'has the fields'),
  ],
)
def test_load_names_the_file_and_the_fault(content, fault, tmp_path):
  path = tmp_path / 'tokenizer.json'
  text = content if isinstance(content, str) else json.dumps(content)
  path.write_bytes(text.encode('utf-8', 'surrogatepass'))
  with pytest.raises(InputError, match=re.escape(fault)) as caught:
    tokenizers.load(path)
  assert str(path) in str(caught.value)
  assert '\n' not in str(caught.value)


def test_load_and_save_name_a_path_that_fails(tmp_path):
  with pytest.raises(InputError, match=r'none: No such file'):
    tokenizers.load(tmp_path / 'none')
  with pytest.raises(InputError, match=r'none/t could not be written'):
    tokenizers.save(tokenizers.build('char', 'a'), tmp_path / 'none' / 't')


def test_a_path_names_a_tokenizer(tmp_path):
  path = str(tmp_path / 'words.json')
  words = tokenizers.build('word', 'a b')
  assert WordTokenizer.build('a b').to_json() == words.to_json()
  tokenizers.save(words, path)
  assert tokenizers.build(path, '').to_json() == words.to_json()
  with pytest.raises(UsageError, match=r'--vocab_size=9: the .* has 5'):
    tokenizers.build(path, '', 9)


def test_what_only_bpe_has_is_refused_elsewhere():
  with pytest.raises(UsageError, match='--vocab_size=9: the char'):
    tokenizers.build('char', 'ab', 9)
  with pytest.raises(UsageError, match='--special is for the bpe'):
    tokenizers.build('gpt2', '', special=['<a>'])


def test_build_refuses_unknown_kind_and_no_text():
  with pytest.raises(UsageError, match="did you mean 'word'"):
    tokenizers.build('words', 'text')
  for kind in ['char', 'word']:
    with pytest.raises(InputError, match='no text'):
      tokenizers.build(kind, '')
    with pytest.raises(InputError, match=r'lone surrogate .* position 1'):
      tokenizers.build(kind, 'a\udcff')
