"""The tokens of a large text, kept in the work directory of its run.

train.npy    token ids of the training part [N]
val.npy      of the validation part; absent where there is none
cache.json   what they were made of, and their fingerprint

They are, to the bit, the tokens that the whole text has in memory: it is read
in parts that end where no token does, and split at the same character. So it
does not matter which of the two ways a run was begun.
"""

import itertools
import json
import os
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from minigpt.config import DataConfig
from minigpt.data.findings import identity
from minigpt.data.shard_writer import write_array
from minigpt.data.sources import UnfitTextError
from minigpt.data.text_files import drop_bad, joined, recut
from minigpt.data.token_shards import (
  Tokens,
  TokenShards,
  checksum,
  map_tokens,
  token_dtype,
)
from minigpt.data.windows import Fingerprint
from minigpt.errors import InputError
from minigpt.runtime.atomic_io import delete_folder, new_folder
from minigpt.runtime.json_io import read_json
from minigpt.tokenizers import Tokenizer
from minigpt.tokenizers.base import json_text

_DESCRIPTION = 'cache.json'
_PART = 1 << 20  # Characters that are tokenized at a time.
_NAMES = ('train.npy', 'val.npy')


class TokenizedText(NamedTuple):
  """Both parts of a text, and what tells it from others."""

  tokenizer: Tokenizer
  train: Tokens
  val: Tokens
  fingerprint: Fingerprint


def open_tokens(
  folder: Path,
  paths: list[str],
  config: DataConfig,
  tokenizer: Tokenizer | None,
  build: Callable[[Iterable[str]], Tokenizer],
) -> TokenizedText:
  """Maps the tokens of text, which it makes where they are not there.

  Args:
    folder: where they are, or will be.
    paths: the files of the text.
    config: says how to read and to split it.
    tokenizer: of the run; None builds one of the text.
    build: makes a tokenizer of a text in parts.

  Raises:
    UnfitTextError: the tokenizer does not know the text.
    InputError: the text cannot be read, or the tokens cannot be written.
  """
  made_of = _made_of(paths, config)
  found = tokenizer and _cached(folder, made_of, tokenizer)
  if found:
    return found
  good = drop_bad(paths) if config.skip_bad_files else paths
  tokenizer = tokenizer or build(_text(good, config.raw_text))
  _delete(folder)
  with new_folder(folder) as scratch:
    _make(scratch, good, config, tokenizer, made_of)
  found = _cached(folder, made_of, tokenizer)
  if found is None:
    raise InputError(
      f'{folder} was changed while it was written; give the command again'
    )
  return found


def _delete(folder: Path) -> None:
  try:
    if folder.exists():
      delete_folder(folder)
  except OSError as error:
    raise InputError(
      f'{folder} cannot be replaced ({error.strerror}); delete it'
    ) from None


def _made_of(paths: Sequence[str], config: DataConfig) -> dict[str, Any]:
  return {
    'files': [[os.path.abspath(path), *identity(path)] for path in paths],
    'raw_text': config.raw_text,
    'val_fraction': config.val_fraction,
  }


def _cached(
  folder: Path, made_of: dict[str, Any], tokenizer: Tokenizer
) -> TokenizedText | None:
  """Returns what is there, if it was made of just that."""
  try:
    known = read_json(folder / _DESCRIPTION)
    found = Fingerprint(**known['fingerprint'])
    wanted = _description(folder, made_of, tokenizer, found)
    if known != json.loads(json.dumps(wanted)):
      return None
    parts = [_mapped(path, tokenizer) for path in _files(folder)]
  except (InputError, KeyError, TypeError):
    return None
  return TokenizedText(tokenizer, parts[0], parts[-1], found)


def _files(folder: Path) -> list[Path]:
  return [p for name in _NAMES if (p := folder / name).is_file()]


def _description(
  folder: Path,
  made_of: dict[str, Any],
  tokenizer: Tokenizer,
  found: Fingerprint,
) -> dict[str, Any]:
  return {
    **made_of,
    'tokenizer': zlib.crc32(json_text(tokenizer).encode()),
    'tokens': [[path.name, *identity(path)] for path in _files(folder)],
    'fingerprint': found._asdict(),
  }


def _mapped(path: Path, tokenizer: Tokenizer) -> TokenShards:
  tokens = map_tokens(path)
  return TokenShards(
    [len(tokens)], lambda _: tokens, tokens.dtype, 0, tokenizer.vocab_size
  )


def _make(
  folder: Path,
  paths: Sequence[str],
  config: DataConfig,
  tokenizer: Tokenizer,
  made_of: dict[str, Any],
) -> None:
  """Writes all files of the cache."""
  n_characters = sum(map(len, _text(paths, config.raw_text)))
  if not n_characters:
    raise InputError(f'{config.dataset} holds no text; give one that does')
  share = 1 - config.val_fraction
  text = _split(_text(paths, config.raw_text), int(n_characters * share))
  ids = _ids(text, tokenizer)
  dtype = token_dtype(tokenizer.vocab_size).name
  n_tokens = crc32 = 0
  for is_val, group in itertools.groupby(ids, lambda part: part[0]):
    with open(folder / _NAMES[is_val], 'wb') as file:
      n, crc32 = write_array(file, (part for _, part in group), dtype, crc32)
    n_tokens += n
  if not config.val_fraction:  # Both parts are all of it.
    n_tokens *= 2
    crc32 = checksum(map_tokens(folder / _NAMES[0]), crc32)
  found = Fingerprint(n_tokens, crc32)
  description = _description(folder, made_of, tokenizer, found)
  (folder / _DESCRIPTION).write_text(json.dumps(description, indent=1) + '\n')


def _text(paths: Sequence[str], raw: bool) -> Iterator[str]:
  """Yields the text of all files in parts; no token spans a boundary."""
  return recut(joined(paths, raw), _PART)


def _split(texts: Iterable[str], n_train: int) -> Iterator[tuple[bool, str]]:
  """Yields parts of text, and whether each is beyond `n_train` characters."""
  for text in texts:
    for is_val, part in ((False, text[:n_train]), (True, text[n_train:])):
      if part:
        yield is_val, part
    n_train = max(n_train - len(text), 0)


def _ids(
  parts: Iterable[tuple[bool, str]], tokenizer: Tokenizer
) -> Iterator[tuple[bool, np.ndarray]]:
  """Yields the token ids of each part."""
  n_characters = 0
  for is_val, text in parts:
    try:
      yield is_val, tokenizer.encode(text)
    except InputError as error:
      raise UnfitTextError(
        f'after the first {n_characters:,} characters, {error}'
      ) from None
    n_characters += len(text)
