"""Tokenizers by name, and as JSON files."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from minigpt.errors import InputError, unknown
from minigpt.runtime import atomic_io
from minigpt.runtime.json_io import read_json
from minigpt.tokenizers import base
from minigpt.tokenizers.char import CharTokenizer
from minigpt.tokenizers.gpt2 import GPT2Tokenizer
from minigpt.tokenizers.word import WordTokenizer

_FROM_TEXT: dict[str, Callable[[str], base.Tokenizer]] = {
  'char': CharTokenizer.build,
  'word': WordTokenizer.build,
  'gpt2': lambda text: GPT2Tokenizer(),
}
_FROM_JSON: dict[str, Callable[[dict[str, Any]], base.Tokenizer]] = {
  'char': CharTokenizer.from_json,
  'word': WordTokenizer.from_json,
  'gpt2': GPT2Tokenizer.from_json,
}


def build(kind: str, text: str) -> base.Tokenizer:
  """Makes a tokenizer of the vocabulary of a text; 'gpt2' ignores the text.

  Raises:
    UsageError: there is no such kind.
    InputError: the text is empty, or GPT-2's vocabulary is neither cached nor
      can be downloaded.
  """
  if kind not in _FROM_TEXT:
    raise unknown('tokenizer', kind, _FROM_TEXT)
  return _FROM_TEXT[kind](text)


def save(tokenizer: base.Tokenizer, path: str | Path) -> None:
  """Writes a tokenizer as JSON.

  Raises:
    InputError: it cannot be written; the previous file is untouched.
  """
  atomic_io.write_text(path, base.json_text(tokenizer))


def load(path: str | Path) -> base.Tokenizer:
  """Reads a tokenizer that `save` has written.

  Raises:
    InputError: the file cannot be read, or is no tokenizer.
  """
  fields = read_json(path)
  try:
    return _from_json(fields)
  except InputError as error:
    raise InputError(f'{path}: {error}') from error


def _from_json(fields: dict[str, Any]) -> base.Tokenizer:
  kind = fields.get('kind')
  if not isinstance(kind, str) or kind not in _FROM_JSON:
    raise InputError(f"'kind' must be one of {', '.join(_FROM_JSON)}")
  return _FROM_JSON[kind](fields)
