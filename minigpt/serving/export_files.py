"""Reads the files of an export that a client of the server needs."""

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

from minigpt import tokenizers
from minigpt.errors import InputError
from minigpt.runtime.json_io import read_json
from minigpt.tokenizers import Tokenizer

_CARD = Path('assets.extra', 'model.json')


class ExportFiles(NamedTuple):
  """The information about a model that a client needs."""

  name: str
  tokenizer: Tokenizer
  context_length: int
  created: int = 0  # seconds since 1970
  stop: tuple[str, ...] = ()  # texts that end every answer of `generate`
  # The sizes of batches that its programs are compiled for; () without XLA.
  compiled_sizes: tuple[int, ...] = ()
  grammars: Mapping[str, Any] = MappingProxyType(
    {}
  )  # by name: regex, json_schema, least_tokens


def read(export_dir: Path) -> ExportFiles:
  """Reads the model card and the tokenizer of a version.

  Raises:
    InputError: a file is missing or damaged.
  """
  card, path = read_card(export_dir), export_dir / _CARD
  if not card:
    raise InputError(f'{export_dir} was not exported by minigpt')
  try:
    sizes = card['batch_sizes'] if card.get('xla') else []
    return ExportFiles(
      str(card['name']),
      tokenizers.load(export_dir / 'assets' / 'tokenizer.json'),
      int(card['model']['context_length']),
      int(path.stat().st_mtime),
      stops(card, path),
      tuple(map(int, sizes)),
      {name: dict(it) for name, it in card.get('grammars', {}).items()},
    )
  except (AttributeError, LookupError, TypeError, ValueError) as error:
    raise InputError(f'{path}: no model card ({error!r:.100})') from None


def read_card(export_dir: Path) -> dict[str, Any]:
  """Reads the model card; returns {} for an export of another program.

  Raises:
    InputError: the card is damaged.
  """
  path = export_dir / _CARD
  return read_json(path) if path.exists() else {}


def stops(card: dict[str, Any], path: Path) -> tuple[str, ...]:
  """Returns the stop strings of the export (`export --stop`).

  Args:
    card: the model card.
    path: of the card or the export, for error messages.

  Raises:
    InputError: the card's stop strings are malformed.
  """
  stop = card.get('stop', [])
  if not isinstance(stop, list) or not all(
    isinstance(each, str) and each for each in stop
  ):
    raise InputError(f'{path}: stop={stop!r:.60} is no list of texts')
  return tuple(stop)
