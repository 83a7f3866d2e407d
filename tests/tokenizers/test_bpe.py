"""Byte pair encoding with a custom vocabulary."""

import inspect
import textwrap

import pytest

from minigpt import tokenizers

SAID = 'Hi <|user|>\n<|bot|><|bot|> <|endoftext|> <|user'


@pytest.fixture(scope='module')
def tokenizer():
  text = inspect.getsource(textwrap)
  return tokenizers.build('bpe', text, 400, ['<|user|>', '<|bot|>'])


def test_special_tokens_that_text_spells_are_one_token(tokenizer):
  ids = tokenizer.encode(SAID)
  assert tokenizer.decode(ids) == SAID
  user, bot = (
    tokenizer.special_ids['<|user|>'],
    tokenizer.special_ids['<|bot|>'],
  )
  found = [i for i in ids.tolist() if i >= 397]
  assert found == [user, bot, bot]
  # Text cannot express the end-of-text token.
  assert tokenizer.end_of_text == 397
  assert tokenizer.boundary == 397
  assert tokenizer.decode([397]) == '<|endoftext|>'


def test_bytes_are_counted(tokenizer):
  sizes = tokenizer.token_sizes(SAID)
  assert sizes.sum() == len(SAID.encode())
  assert sizes.max() == len('<|user|>')


def test_any_bytes_have_ids(tokenizer, mixed):
  assert tokenizer.unknown is None
  assert tokenizer.decode(tokenizer.encode(mixed)) == mixed


def test_beside_a_special_token_text_begins_and_ends(tokenizer):
  parts = ["it'", '<|user|>', 's  ', '<|bot|>', "  'll"]
  together = tokenizer.encode(''.join(parts)).tolist()
  apart = [i for part in parts for i in tokenizer.encode(part).tolist()]
  assert together == apart
