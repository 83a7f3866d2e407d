"""All tokenizers: exact round trips, clear errors."""

import numpy as np
import pytest

from minigpt import tokenizers
from minigpt.errors import InputError
from minigpt.tokenizers import base


@pytest.mark.parametrize('kind', ['char', 'word', 'gpt2'])
def test_decode_inverts_encode(mixed, kind, request):
  if kind == 'gpt2':
    request.getfixturevalue('gpt2_tokenizer')
  tokenizer = tokenizers.build(kind, mixed)
  assert tokenizer.name == kind
  for text in ['', mixed, mixed + mixed]:
    ids = tokenizer.encode(text)
    assert ids.dtype == np.int32
    assert ids.ndim == 1
    assert tokenizer.decode(ids) == text
    assert tokenizer.decode(ids.tolist()) == text


def test_text_that_spells_a_special_token_stays_text(gpt2_tokenizer):
  words = tokenizers.build('word', 'a<|eos|>b')
  assert words.decode(words.encode('a<|eos|>b')) == 'a<|eos|>b'
  assert words.end_of_text not in words.encode('a<|eos|>b')
  ids = gpt2_tokenizer.encode('<|endoftext|>')
  assert ids.tolist() == [27, 91, 437, 1659, 5239, 91, 29]
  assert gpt2_tokenizer.decode([50256]) == '<|endoftext|>'


@pytest.mark.parametrize('kind', ['word', 'gpt2'])
def test_cutting_long_text_changes_no_token(mixed, kind, request, monkeypatch):
  if kind == 'gpt2':
    request.getfixturevalue('gpt2_tokenizer')
  text = (mixed + '   spaces \n\n\n\n and x  y\x1c z\n\n') * 5
  tokenizer = tokenizers.build(kind, text)
  whole = tokenizer.encode(text)
  n_chunks = []

  def small_chunks(text, cuts):
    parts = list(chunks(text, cuts, 1))
    n_chunks.append(len(parts))
    return parts

  chunks = base.chunks
  monkeypatch.setattr(base, 'chunks', small_chunks)
  np.testing.assert_array_equal(tokenizer.encode(text), whole)
  assert n_chunks[0] > 30


def test_many_ids_are_decoded_in_parts():
  ids = np.arange(70_000) % 3
  assert tokenizers.build('char', 'abc').decode(ids) == 'abc' * 23_333 + 'a'


@pytest.mark.parametrize('kind', ['char', 'word', 'gpt2'])
def test_decode_refuses_ids_outside_the_vocabulary(sample, kind, request):
  if kind == 'gpt2':
    request.getfixturevalue('gpt2_tokenizer')
  tokenizer = tokenizers.build(kind, sample)
  for bad in [-1, tokenizer.vocab_size]:
    with pytest.raises(InputError, match=f'token id {bad} at position 1'):
      tokenizer.decode([0, bad])
  for bad in [[[1, 2]], [0.5]]:
    with pytest.raises(InputError, match='one sequence of integers'):
      tokenizer.decode(bad)
  assert tokenizer.decode([]) == ''


@pytest.mark.parametrize(
  ('tokenizer', 'boundary'),
  [
    (tokenizers.build('word', 'a\n'), b'<|eos|>'),
    (tokenizers.build('char', 'a\nb'), b'\n'),
    (tokenizers.build('char', 'ab'), None),
  ],
)
def test_an_empty_prompt_is_the_boundary_before_it(tokenizer, boundary):
  assert (
    tokenizers.encode_prompt(tokenizer, 'a').tolist()
    == tokenizer.encode('a').tolist()
  )
  if boundary is None:
    with pytest.raises(InputError, match='the prompt is empty, and the char'):
      tokenizers.encode_prompt(tokenizer, '')
  else:
    [token] = tokenizers.encode_prompt(tokenizer, '')
    assert tokenizer.tokens[token] == boundary
