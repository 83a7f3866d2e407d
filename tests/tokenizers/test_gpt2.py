"""GPT-2's byte pair encoding, against published ids."""

import socket

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from minigpt import tokenizers
from minigpt.errors import InputError
from minigpt.tokenizers import byte_pairs


def test_gpt2_knows_the_published_ids(gpt2_tokenizer):
  ids = gpt2_tokenizer.encode('Hello, I am')
  assert ids.dtype == np.int32
  assert ids.tolist() == [15496, 11, 314, 716]
  assert gpt2_tokenizer.vocab_size == 50257
  assert gpt2_tokenizer.end_of_text == 50256


def test_cut_characters_decode_to_replacement_and_exact_bytes(gpt2_tokenizer):
  text = '\U0001f600'
  ids = gpt2_tokenizer.encode(text)
  assert len(ids) > 1
  assert gpt2_tokenizer.decode(ids[:1]) == '\ufffd'
  parts = b''.join(gpt2_tokenizer.decode_bytes([i]) for i in ids)
  assert parts == text.encode()


def test_gpt2_assets_rebuild_the_vocabulary(gpt2_tokenizer):
  lines = gpt2_tokenizer.assets()['gpt2.tiktoken'].splitlines()
  assert len(lines) == 50256
  assert lines[0] == b'IQ== 0'  # '!'
  assert lines[262] == b'IHRoZQ== 262'  # ' the'


def test_gpt2_without_file_or_network_names_the_variable(tmp_path, monkeypatch):
  tiktoken = pytest.importorskip('tiktoken')

  def offline(*_, **__):
    raise socket.gaierror('Name or service not known')

  monkeypatch.setenv('TIKTOKEN_CACHE_DIR', str(tmp_path))
  monkeypatch.setattr(socket, 'getaddrinfo', offline)
  monkeypatch.setattr(tiktoken.registry, 'ENCODINGS', {})
  byte_pairs.gpt2_encoding.cache_clear()
  with pytest.raises(InputError, match='TIKTOKEN_CACHE_DIR') as caught:
    tokenizers.build('gpt2', '')
  assert '\n' not in str(caught.value)


@given(
  st.text(" \n\t\u00a0\u3000\x1c\u200ba1!'s", max_size=40), st.integers(2, 4)
)
@example("it's\u00a0\u00a0\u00a0\u00a0 \n\n a  's", 3)
def test_long_white_space_apart_gives_the_same_tokens(
  gpt2_tokenizer, text, most
):
  whole = gpt2_tokenizer._encoder.encoding.encode_ordinary(text)
  found = []
  for part, is_piece in byte_pairs.split_long_spaces(text, most):
    encoding = gpt2_tokenizer._encoder.of_pieces if is_piece else None
    found += (encoding or gpt2_tokenizer._encoder.encoding).encode_ordinary(
      part
    )
  assert found == whole


@pytest.mark.parametrize('space', [' ', '\n', '\u00a0', ' \n'])
def test_a_million_blanks_are_no_panic(gpt2_tokenizer, space):
  """tiktoken alone raises Rust's PanicException, which is no Exception."""
  spaces = space * (1_100_000 // len(space))
  ids = gpt2_tokenizer.encode(f'a{spaces} b{space}')
  parts = ['a', spaces, ' b', space]
  expected = map(gpt2_tokenizer._encoder.encoding.encode_ordinary, parts)
  assert ids.tolist() == [i for part in expected for i in part]
