"""Tokenizers in Python: exact round trips, clear refusals, safe files."""

import json
import os
import re
import socket

import numpy as np
import pytest

from minigpt import tokenizers
from minigpt.errors import InputError, UsageError
from minigpt.runtime import atomic_io
from minigpt.tokenizers import base, gpt2

SAMPLE = (
  'the sun sets in the west. the stars shine in the night. '
  'the moon rises with grace.'
)
# Accents, a joined emoji, CJK, odd white space, a NUL, apostrophes.
MIXED = (
  "Don't stop!  It\u2019s 'fine'\r\n\tna\u00efve cafe\u0301 \u6f22\u5b57"
  '\u3000\u00a0\U0001f469\u200d\U0001f680 \x00 1\u00bd \u2028end \n'
)


@pytest.fixture(scope='module')
def gpt2_tokenizer():
  try:
    return tokenizers.build('gpt2', '')
  except InputError as error:
    pytest.skip(str(error))


def test_char_ids_are_ranks_in_code_point_order():
  tokenizer = tokenizers.build('char', 'ba\U0001f600b')
  assert tokenizer.vocab_size == 3
  assert tokenizer.end_of_text is None
  ids = tokenizer.encode('a\U0001f600bb')
  assert ids.dtype == np.int32
  assert ids.tolist() == [0, 2, 1, 1]


def test_char_refuses_unseen_character_by_name_and_position():
  tokenizer = tokenizers.build('char', 'ac')
  for text, name in [('acb', 'U+0062'), ('ac\U0001f600', 'U+1F600')]:
    with pytest.raises(InputError) as caught:
      tokenizer.encode(text)
    assert repr(text[2]) in str(caught.value)
    assert name in str(caught.value)
    assert 'position 2' in str(caught.value)


def test_word_splits_words_marks_and_white_space():
  tokenizer = tokenizers.build('word', MIXED)
  pieces = [tokenizer.decode([i]) for i in tokenizer.encode(MIXED)]
  assert pieces[:8] == ["Don't", ' ', 'stop', '!', ' ', ' ', 'It\u2019s', ' ']
  assert pieces[8:15] == ["'", 'fine', "'", '\r', '\n', '\t', 'na\u00efve']
  assert 'cafe\u0301' in pieces
  assert '\u6f22\u5b57' in pieces


def test_word_unknown_and_end_are_the_last_ids():
  tokenizer = tokenizers.build('word', SAMPLE)
  n_distinct = len(set(re.findall('[a-z]+|[ .]', SAMPLE)))
  assert tokenizer.vocab_size == n_distinct + 2
  assert tokenizer.end_of_text == n_distinct + 1
  ids = tokenizer.encode('the comet sets.')
  assert tokenizer.decode(ids) == 'the <|unk|> sets.'
  assert tokenizer.decode([tokenizer.end_of_text]) == '<|eos|>'


def test_text_that_spells_a_special_token_stays_text(gpt2_tokenizer):
  words = tokenizers.build('word', 'a<|eos|>b')
  assert words.decode(words.encode('a<|eos|>b')) == 'a<|eos|>b'
  assert words.end_of_text not in words.encode('a<|eos|>b')
  ids = gpt2_tokenizer.encode('<|endoftext|>')
  assert ids.tolist() == [27, 91, 437, 1659, 5239, 91, 29]
  assert gpt2_tokenizer.decode([50256]) == '<|endoftext|>'


def test_gpt2_knows_the_published_ids(gpt2_tokenizer):
  ids = gpt2_tokenizer.encode('Hello, I am')
  assert ids.dtype == np.int32
  assert ids.tolist() == [15496, 11, 314, 716]
  assert gpt2_tokenizer.vocab_size == 50257
  assert gpt2_tokenizer.end_of_text == 50256


@pytest.mark.parametrize('kind', ['char', 'word', 'gpt2'])
def test_decode_inverts_encode(kind, request):
  if kind == 'gpt2':
    request.getfixturevalue('gpt2_tokenizer')
  tokenizer = tokenizers.build(kind, MIXED)
  assert tokenizer.name == kind
  for text in ['', MIXED, MIXED + MIXED]:
    ids = tokenizer.encode(text)
    assert ids.dtype == np.int32
    assert ids.ndim == 1
    assert tokenizer.decode(ids) == text
    assert tokenizer.decode(ids.tolist()) == text


@pytest.mark.parametrize('kind', ['word', 'gpt2'])
def test_cutting_long_text_changes_no_token(kind, request, monkeypatch):
  if kind == 'gpt2':
    request.getfixturevalue('gpt2_tokenizer')
  text = (MIXED + '   spaces \n\n\n\n and x  y\x1c z\n\n') * 5
  tokenizer = tokenizers.build(kind, text)
  whole = tokenizer.encode(text)
  n_chunks = []

  def small_chunks(text):
    parts = list(chunks(text, 1))
    n_chunks.append(len(parts))
    return parts

  chunks = base.chunks
  monkeypatch.setattr(base, 'chunks', small_chunks)
  np.testing.assert_array_equal(tokenizer.encode(text), whole)
  assert n_chunks[0] > 30


def test_cut_characters_decode_to_replacement_and_exact_bytes(gpt2_tokenizer):
  text = '\U0001f600'
  ids = gpt2_tokenizer.encode(text)
  assert len(ids) > 1
  assert gpt2_tokenizer.decode(ids[:1]) == '\ufffd'
  parts = b''.join(gpt2_tokenizer.decode_bytes([i]) for i in ids)
  assert parts == text.encode()


@pytest.mark.parametrize('kind', ['char', 'word', 'gpt2'])
def test_decode_refuses_ids_outside_the_vocabulary(kind, request):
  if kind == 'gpt2':
    request.getfixturevalue('gpt2_tokenizer')
  tokenizer = tokenizers.build(kind, SAMPLE)
  for bad in [-1, tokenizer.vocab_size]:
    with pytest.raises(InputError, match=f'token id {bad} at position 1'):
      tokenizer.decode([0, bad])
  for bad in [[[1, 2]], [0.5]]:
    with pytest.raises(InputError, match='one row of integers'):
      tokenizer.decode(bad)
  assert tokenizer.decode([]) == ''


@pytest.mark.parametrize('kind', ['char', 'word', 'gpt2'])
def test_saved_tokenizer_loads_the_same(kind, request, tmp_path):
  if kind == 'gpt2':
    request.getfixturevalue('gpt2_tokenizer')
  tokenizer = tokenizers.build(kind, MIXED)
  path = tmp_path / 'tokenizer.json'
  tokenizers.save(tokenizer, path)
  assert os.listdir(tmp_path) == ['tokenizer.json']
  loaded = tokenizers.load(path)
  assert type(loaded) is type(tokenizer)
  assert loaded.to_json() == tokenizer.to_json()
  assert loaded.to_json()['kind'] == kind
  np.testing.assert_array_equal(loaded.encode(MIXED), tokenizer.encode(MIXED))
  assert tokenizer.assets()['tokenizer.json'] == path.read_bytes()


def test_gpt2_assets_rebuild_the_vocabulary(gpt2_tokenizer):
  lines = gpt2_tokenizer.assets()['gpt2.tiktoken'].splitlines()
  assert len(lines) == 50256
  assert lines[0] == b'IQ== 0'  # '!'
  assert lines[262] == b'IHRoZQ== 262'  # ' the'


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


END = ['<|unk|>', '<|eos|>']


@pytest.mark.parametrize(
  ('content', 'fault'),
  [
    ('', 'is not JSON'),
    ('\ud800', 'is not JSON'),
    ('[' * 100_000, 'is not JSON'),
    ('[]', "'kind' must be one of"),
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
  with pytest.raises(InputError, match=r'cannot read .*none'):
    tokenizers.load(tmp_path / 'none')
  with pytest.raises(InputError, match=r'none/t could not be written'):
    tokenizers.save(tokenizers.build('char', 'a'), tmp_path / 'none' / 't')


def test_build_refuses_unknown_kind_and_no_text():
  with pytest.raises(UsageError, match="did you mean 'word'"):
    tokenizers.build('words', 'text')
  for kind in ['char', 'word']:
    with pytest.raises(InputError, match='no text'):
      tokenizers.build(kind, '')
    with pytest.raises(InputError, match=r'lone surrogate .* position 1'):
      tokenizers.build(kind, 'a\udcff')


def test_gpt2_without_file_or_network_names_the_variable(tmp_path, monkeypatch):
  tiktoken = pytest.importorskip('tiktoken')

  def offline(*_, **__):
    raise socket.gaierror('Name or service not known')

  monkeypatch.setenv('TIKTOKEN_CACHE_DIR', str(tmp_path))
  monkeypatch.setattr(socket, 'getaddrinfo', offline)
  monkeypatch.setattr(tiktoken.registry, 'ENCODINGS', {})
  gpt2._encoding.cache_clear()
  with pytest.raises(InputError, match='TIKTOKEN_CACHE_DIR') as caught:
    tokenizers.build('gpt2', '')
  assert '\n' not in str(caught.value)
