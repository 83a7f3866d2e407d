"""The token cache: the tokens of a large text, in the run's work directory.

train.npy    token ids of the training part [N]
val.npy      those of the validation part, if there is one
cache.json   the source of the tokens, and their fingerprint

The tokens are exactly those of the whole text encoded in memory: the text is
read in parts that end at token boundaries, and is split at the same character.
So it does not matter in which of the two ways a run was begun. Without a work
directory, the same tokens go to unnamed temporary files.
"""

import contextlib
import itertools
import json
import os
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import IO, Any, NamedTuple

import numpy as np

from minigpt import tokenizers
from minigpt.config import DataConfig
from minigpt.data.findings import identity
from minigpt.data.shard_writer import write_array
from minigpt.data.sources import UnfitTextError, text_paths, training_size
from minigpt.data.text_files import joined, readable, recut, text_length
from minigpt.data.text_formats import text_size
from minigpt.data.token_shards import (
  CHECKED,
  Tokens,
  TokenShards,
  checksum,
  map_file,
  map_tokens,
  token_dtype,
)
from minigpt.data.windows import Fingerprint
from minigpt.errors import InputError
from minigpt.runtime.atomic_io import delete_folder, new_folder, unnamed_files
from minigpt.runtime.json_io import read_json
from minigpt.tokenizers import Tokenizer
from minigpt.tokenizers.base import json_text
from minigpt.tokenizers.cuts import Cuts

_DESCRIPTION = 'cache.json'
_MOST_IN_MEMORY = 16 << 20  # Bytes; a larger text is tokenized in parts.
_PART = 1 << 20  # Characters tokenized at a time.
_NAMES = ('train.npy', 'val.npy')
_OURS = {*_NAMES, _DESCRIPTION, CHECKED}


class TokenizedText(NamedTuple):
  """The tokens of both parts of a text, and its fingerprint."""

  tokenizer: Tokenizer
  train: Tokens
  val: Tokens
  fingerprint: Fingerprint


def large_text(config: DataConfig) -> list[str]:
  """Returns the files of a text too large for memory, or an empty list."""
  paths = [] if config.own_splits else text_paths(config)
  return paths if sum(map(text_size, paths)) > _MOST_IN_MEMORY else []


class LargeText:
  """A text in files that is read in parts."""

  def __init__(self, paths: list[str], config: DataConfig):
    """Reads the text once, to count characters and to skip bad files.

    Args:
      paths: the files.
      config: how to read and to split the text.

    Raises:
      InputError: the text cannot be read, or is empty.
    """

    def count(path: str) -> int:
      return text_length(path, config.raw_text)

    if config.skip_bad_files:
      counted = readable(paths, count)
    else:
      counted = [(path, count(path)) for path in paths]
    self.config = config
    self._paths = [path for path, _ in counted]
    # A line feed separates files.
    n_characters = sum(n for _, n in counted) + len(counted) - 1
    if not n_characters:
      raise InputError(f'{config.dataset} holds no text; give one that does')
    self._n_train = training_size(n_characters, config.val_fraction)

  def parts(self, cuts: Cuts) -> Iterator[str]:
    """Yields the whole text, in parts that end at places of `cuts`."""
    text = joined(self._paths, self.config.raw_text)
    return recut(text, _PART, cuts)

  def split(self, cuts: Cuts) -> Iterator[tuple[bool, str]]:
    """Yields (whether it is validation text, text) for each part."""
    n_train = self._n_train
    for text in self.parts(cuts):
      for is_val, part in ((False, text[:n_train]), (True, text[n_train:])):
        if part:
          yield is_val, part
      n_train = max(n_train - len(text), 0)

  def build(self, build: Callable[[Iterable[str]], Tokenizer]) -> Tokenizer:
    """Builds a tokenizer with the vocabulary of the text."""
    config = self.config
    cuts = tokenizers.cuts_to_learn(config.tokenizer, config.special)
    return build(self.parts(cuts))


def open_tokens(
  folder: Path | None,
  paths: list[str],
  config: DataConfig,
  tokenizer: Tokenizer | None,
  build: Callable[[Iterable[str]], Tokenizer],
) -> TokenizedText:
  """Maps the cached tokens of a text; creates the cache if necessary.

  Args:
    folder: of the cache; None uses unnamed files instead.
    paths: the files of the text.
    config: how to read and to split the text.
    tokenizer: of the run; None builds one from the text.
    build: builds a tokenizer from a text in parts.

  Raises:
    UnfitTextError: the text contains characters outside the vocabulary.
    InputError: the text cannot be read, or the tokens cannot be written.
  """
  made_of = _made_of(paths, config)
  if folder and tokenizer and (found := _cached(folder, made_of, tokenizer)):
    return found
  text = LargeText(paths, config)
  tokenizer = tokenizer or text.build(build)
  if folder is None:
    return _unkept(text, tokenizer)
  _delete(folder)
  with new_folder(folder) as scratch:
    _make(scratch, text, tokenizer, made_of)
  found = _cached(folder, made_of, tokenizer)
  if found is None:
    raise InputError(
      f'{folder} was changed while it was written; run the command again'
    )
  return found


def cached(
  folder: Path, paths: list[str], config: DataConfig, tokenizer: Tokenizer
) -> TokenizedText | None:
  """Returns the tokens in `folder`, if they are those of this text."""
  return _cached(folder, _made_of(paths, config), tokenizer)


def _delete(folder: Path) -> None:
  try:
    if not folder.exists():
      return
    found = {path.name for path in folder.iterdir()} - _OURS
    # Hidden files come from file systems and killed writers.
    others = [name for name in found if not name.startswith('.')]
    if others:
      raise InputError(
        f'{folder} is for the tokens of the run, and holds {min(others)}; '
        'move it elsewhere'
      )
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
  try:
    known = read_json(folder / _DESCRIPTION)
    found = Fingerprint(**known['fingerprint'])
    wanted = _description(folder, made_of, tokenizer, found)
    if known != json.loads(json.dumps(wanted)):
      return None
    parts = [_known(map_tokens(path), tokenizer) for path in _files(folder)]
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


def _known(tokens: np.ndarray, tokenizer: Tokenizer) -> TokenShards:
  """Wraps an array whose ids are known to be in the vocabulary."""
  return TokenShards.of(tokens, n_ids=tokenizer.vocab_size)


def _make(
  folder: Path, text: LargeText, tokenizer: Tokenizer, made_of: dict[str, Any]
) -> None:
  """Writes all files of the cache."""
  with contextlib.ExitStack() as files:
    found = _write(
      text,
      tokenizer,
      lambda i: files.enter_context(open(folder / _NAMES[i], 'w+b')),
    )
  description = _description(folder, made_of, tokenizer, found)
  (folder / _DESCRIPTION).write_text(json.dumps(description, indent=1) + '\n')


def _unkept(text: LargeText, tokenizer: Tokenizer) -> TokenizedText:
  """Returns the tokens in unnamed files, which end with the process."""
  files: list[IO[bytes]] = []

  def opened(is_val: bool) -> IO[bytes]:
    files.append(create())
    return files[-1]

  with unnamed_files() as create:
    found = _write(text, tokenizer, opened)
    parts = [_known(map_file(file), tokenizer) for file in files]
  return TokenizedText(tokenizer, parts[0], parts[-1], found)


def _write(
  text: LargeText, tokenizer: Tokenizer, create: Callable[[bool], IO[bytes]]
) -> Fingerprint:
  """Writes the tokens of each part to the file that `create` opens for it."""
  ids = _ids(text.split(tokenizer.cuts), tokenizer)
  dtype = token_dtype(tokenizer.vocab_size).name
  n_tokens = crc32 = 0
  for is_val, group in itertools.groupby(ids, lambda part: part[0]):
    file = create(is_val)
    n, crc32 = write_array(file, (part for _, part in group), dtype, crc32)
    n_tokens += n
    if not text.config.val_fraction:  # Both parts are the whole text.
      n_tokens += n
      crc32 = checksum(map_file(file), crc32)
  return Fingerprint(n_tokens, crc32)


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
