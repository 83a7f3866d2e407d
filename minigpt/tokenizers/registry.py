"""Tokenizers by name, and as JSON files."""

import json
import os
import pathlib
from typing import Any

from minigpt.errors import InputError, unknown
from minigpt.runtime import atomic_io
from minigpt.tokenizers import base
from minigpt.tokenizers.char import CharTokenizer
from minigpt.tokenizers.gpt2 import GPT2Tokenizer
from minigpt.tokenizers.word import WordTokenizer

_KINDS = {
  'char': CharTokenizer,
  'word': WordTokenizer,
  'gpt2': GPT2Tokenizer,
}


def build(kind: str, text: str) -> base.Tokenizer:
  """Learns the vocabulary of `text`; 'gpt2' has its own and ignores it.

  Raises:
    UsageError: there is no such kind.
    InputError: the text is empty, or GPT-2's vocabulary is not to be had.
  """
  if kind not in _KINDS:
    raise unknown('tokenizer', kind, _KINDS)
  return GPT2Tokenizer() if kind == 'gpt2' else _KINDS[kind].build(text)


def save(tokenizer: base.Tokenizer, path: str | os.PathLike) -> None:
  """Writes JSON; the file is there whole or not at all.

  Raises:
    InputError: it cannot be written.
  """
  atomic_io.write_text(pathlib.Path(path), base.json_text(tokenizer))


def load(path: str | os.PathLike) -> base.Tokenizer:
  """Reads what `save` wrote.

  Raises:
    InputError: the file cannot be read, or is no tokenizer.
  """
  try:
    return _from_json(json.loads(pathlib.Path(path).read_bytes()))
  except OSError as error:
    raise InputError(f'cannot read {path}: {error.strerror}') from error
  except (ValueError, RecursionError) as error:
    raise InputError(f'{path} is not JSON: {error}') from error
  except InputError as error:
    raise InputError(f'{path}: {error}') from error


def _from_json(fields: Any) -> base.Tokenizer:
  kind = fields.get('kind') if isinstance(fields, dict) else None
  if not isinstance(kind, str) or kind not in _KINDS:
    raise InputError(f"'kind' must be one of {', '.join(_KINDS)}")
  return _KINDS[kind].from_json(fields)
