"""Examples in JSONL files, one JSON object a line.

pairs       {"prompt": ..., "completion": ...}
choices     {"ctx": ..., "endings": [...], "label": ...}, as in HellaSwag
last words  {"text": ...}, as in LAMBADA
"""

import glob
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from minigpt.errors import InputError
from minigpt.runtime.json_io import parse_json


class Pair(NamedTuple):
  """A prompt and its completion."""

  where: str  # file and line, for error messages
  prompt: str
  completion: str


class Choice(NamedTuple):
  """A text, several endings, and the index of the right one."""

  where: str
  context: str
  endings: tuple[str, ...]
  label: int


def holds_pairs(path: str | Path) -> bool:
  """Tells whether a data set is a .jsonl file of pairs, and not of texts.

  The first object of a .jsonl file of texts has a `text` and no `prompt`.
  """
  if not str(path).endswith('.jsonl'):
    return False
  if not Path(path).is_file():
    return not glob.has_magic(str(path))
  try:
    with open(path, encoding='utf-8') as file:
      first = json.loads(next(filter(str.strip, file)))
      return 'text' not in first or 'prompt' in first
  except (OSError, ValueError, StopIteration, TypeError, RecursionError):
    return True  # The function that reads it will report the error.


def read_pairs(path: str | Path) -> list[Pair]:
  """Reads prompts and completions.

  Raises:
    InputError: the file cannot be read, or a line is malformed.
  """
  return [_pair(where, record) for where, record in _records(path)]


def read_choices(path: str | Path) -> list[Choice]:
  """Reads texts with several endings.

  Raises:
    InputError: the file cannot be read, or a line is malformed.
  """
  return [_choice(where, record) for where, record in _records(path)]


def read_last_words(path: str | Path) -> list[Pair]:
  """Reads texts; the last word is the completion, with the space before it.

  Raises:
    InputError: the file cannot be read, or a line is malformed.
  """
  return [_last_word(where, record) for where, record in _records(path)]


def _pair(where: str, record: dict[str, Any]) -> Pair:
  pair = Pair(
    where, _text(where, record, 'prompt'), _text(where, record, 'completion')
  )
  if not pair.completion:
    raise InputError(f'{where}: its completion is empty')
  return pair


def _choice(where: str, record: dict[str, Any]) -> Choice:
  endings, label = record.get('endings'), record.get('label')
  if isinstance(label, str) and label.isdecimal():
    label = int(label)  # A string in Hugging Face's copies of HellaSwag.
  if (
    not isinstance(endings, list)
    or len(endings) < 2
    or not all(isinstance(ending, str) and ending for ending in endings)
  ):
    raise InputError(f'{where}: endings must be a list of two or more texts')
  if type(label) is not int or not 0 <= label < len(endings):
    raise InputError(
      f'{where}: label is {label!r}; it must be one of 0 to {len(endings) - 1}'
    )
  return Choice(where, _text(where, record, 'ctx'), tuple(endings), label)


def _last_word(where: str, record: dict[str, Any]) -> Pair:
  context, space, word = _text(where, record, 'text').strip().rpartition(' ')
  if not space:
    raise InputError(f'{where}: its text has fewer than two words')
  return Pair(where, context, space + word)


def _text(where: str, record: dict[str, Any], field: str) -> str:
  value = record.get(field)
  if not isinstance(value, str):
    raise InputError(f'{where}: {field} is {value!r}; it must be a text')
  return value


def _records(path: str | Path) -> Iterator[tuple[str, dict[str, Any]]]:
  """Yields (file and line, object) for each line that is not blank."""
  try:
    # utf-8-sig drops a byte order mark, which is not JSON. Not `splitlines`,
    # which also splits at characters that JSON strings may contain.
    lines = Path(path).read_text(encoding='utf-8-sig').split('\n')
  except OSError as error:
    raise InputError(f'{path}: {error.strerror}; check the path') from None
  except UnicodeDecodeError as error:
    raise InputError(f'{path} is not UTF-8 (byte {error.start})') from None
  if not any(map(str.strip, lines)):
    raise InputError(f'{path} holds no examples; give a file with some')
  for number, line in enumerate(lines, 1):
    if line.strip():
      where = f'{path}, line {number}'
      yield where, parse_json(line, where)
