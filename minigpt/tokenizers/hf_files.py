"""Writes byte pair encodings as the files that `transformers` reads."""

import functools
import itertools
import json
import math

from minigpt.tokenizers.base import Tokenizer, json_text


def files(tokenizer: Tokenizer) -> dict[str, str]:
  """Returns the files that `transformers` reads, {name: content}.

  The result is empty if `transformers` has no such tokenizer.
  """
  if tokenizer.name == 'bpe':
    return _bpe_files(tokenizer)
  if tokenizer.name != 'gpt2':
    return {}
  *mergeable, last = tokenizer.tokens
  end_of_text = spelled(last)
  settings = {'tokenizer_class': 'GPT2Tokenizer'}
  settings |= {f'{name}_token': end_of_text for name in ('bos', 'eos', 'unk')}
  lines = ['#version: 0.2', *merges(mergeable)]
  return {
    'vocab.json': json.dumps(vocabulary(tokenizer.tokens)),
    'merges.txt': '\n'.join(lines) + '\n',
    'tokenizer_config.json': json.dumps(settings, indent=2) + '\n',
  }


def _bpe_files(tokenizer: Tokenizer) -> dict[str, str]:
  settings = {'tokenizer_class': 'PreTrainedTokenizerFast'}
  if tokenizer.end_of_text is not None:
    end_of_text = tokenizer.decode([tokenizer.end_of_text])
    settings |= {f'{name}_token': end_of_text for name in ('bos', 'eos')}
  return {
    'tokenizer.json': json_text(tokenizer),
    'tokenizer_config.json': json.dumps(settings, indent=2) + '\n',
  }


def vocabulary(tokens: list[bytes]) -> dict[str, int]:
  """Returns the content of vocab.json."""
  return {spelled(token): i for i, token in enumerate(tokens)}


def merges(tokens: list[bytes]) -> list[str]:
  """Returns the lines of merges.txt: the two tokens that make each later one.

  Args:
    tokens: bytes by id, without special tokens.
  """
  ranks = {token: rank for rank, token in enumerate(tokens)}
  return [
    ' '.join(map(spelled, _halves(token, ranks)))
    for token in tokens
    if len(token) > 1
  ]


def _halves(token: bytes, ranks: dict[bytes, int]) -> list[bytes]:
  """Returns the two tokens that the last merge of `token` joins."""
  parts = [bytes([b]) for b in token]
  while len(parts) > 2:
    pairs = [a + b for a, b in itertools.pairwise(parts)]
    # The pair of lowest rank is merged first, as in encoding.
    i = min(range(len(pairs)), key=lambda i: ranks.get(pairs[i], math.inf))
    parts[i : i + 2] = [pairs[i]]
  return parts


def spelled(token: bytes) -> str:
  """Returns a token with one visible character for each byte."""
  return ''.join(map(_visible_bytes().__getitem__, token))


def unspelled(name: str) -> bytes:
  """Returns the bytes of a token written by `spelled`.

  Raises:
    KeyError: a character stands for no byte.
  """
  return bytes(map(_values_of_visible().__getitem__, name))


@functools.cache
def _values_of_visible() -> dict[str, int]:
  return {character: b for b, character in enumerate(_visible_bytes())}


@functools.cache
def _visible_bytes() -> list[str]:
  """Maps visible bytes to Latin-1, the others to U+0100, U+0101, ...

  Source: bytes_to_unicode in https://github.com/openai/gpt-2, src/encoder.py.
  """
  visible = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
  others = iter(range(0x100, 0x200))
  return [chr(b if b in visible else next(others)) for b in range(256)]
