"""Writes token shards, in bounded memory and with several processes.

Files are split at places that no token spans. A range of text, or several small
ones, becomes a shard, which is written atomically, with a JSON file of the same
name that describes it. A preparation that was killed continues with the missing
shards.
"""

import functools
import json
import zlib
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import IO

import numpy as np

from minigpt import tokenizers
from minigpt.data.text_files import TextRange, documents
from minigpt.data.token_shards import (
  MANIFEST,
  Manifest,
  Shard,
  map_tokens,
  parse_shard,
)
from minigpt.errors import InputError
from minigpt.runtime.atomic_io import new_file, write_text
from minigpt.runtime.json_io import read_json
from minigpt.tokenizers import Tokenizer

_SHARD = 'shard-'


def fill_shards(
  ranges: Iterable[TextRange], size: int
) -> list[list[TextRange]]:
  """Groups successive ranges into shards of up to about `size` bytes of text.

  So a thousand small files become a few shards.
  """
  shards: list[list[TextRange]] = []
  room = 0
  for text_range in ranges:
    n_bytes = text_range.stop - text_range.start
    if n_bytes > room or not shards:
      shards.append([])
      room = size
    shards[-1].append(text_range)
    room -= n_bytes
  return shards


def write_shard(
  ranges: Sequence[TextRange], folder: str | Path, number: int, dtype: str
) -> Shard:
  """Tokenizes ranges into one shard, unless it exists already.

  Raises:
    InputError: the text cannot be read or tokenized, or the shard cannot be
      written; nothing is left behind.
  """
  path = Path(folder) / f'{_SHARD}{number:05}.npy'
  sidecar = path.with_suffix('.json')
  if finished := _finished_shard(path, sidecar, dtype):
    return finished
  tokenizer = _load_tokenizer(Path(folder))
  with new_file(path) as scratch, open(scratch, 'wb') as file:
    shard = _write_tokens(file, ranges, path.name, dtype, tokenizer)
  write_text(sidecar, json.dumps(shard._asdict()))
  return shard


def _finished_shard(path: Path, sidecar: Path, dtype: str) -> Shard | None:
  """Returns the description of an existing shard, or None.

  A description that names another file, or does not match the shard, does not
  count, as other programs may write to the folder.
  """
  if not (sidecar.is_file() and path.is_file()):
    return None
  try:
    shard = parse_shard(read_json(sidecar))
    tokens = map_tokens(path)
  except (InputError, TypeError, ValueError):
    return None
  fits = tokens.dtype == dtype and len(tokens) == shard.n_tokens
  return shard if fits and shard.name == path.name else None


def delete_shards(folder: Path) -> None:
  """Deletes the shards of an unfinished preparation.

  Raises:
    InputError: a file cannot be deleted.
  """
  # Descriptions first, as a shard without one does not count.
  for kind in ('json', 'npy'):
    for path in folder.glob(f'{_SHARD}[0-9]*.{kind}'):
      try:
        path.unlink()
      except OSError as error:
        raise InputError(f'{path}: {error.strerror}') from None


@functools.cache
def _load_tokenizer(folder: Path) -> Tokenizer:
  """Loads the tokenizer, once for all shards of this process."""
  return tokenizers.load(folder / 'tokenizer.json')


def _write_tokens(
  file: IO[bytes],
  ranges: Sequence[TextRange],
  name: str,
  dtype: str,
  tokenizer: Tokenizer,
) -> Shard:
  n_documents = 0

  def all_ids() -> Iterator[np.ndarray]:
    nonlocal n_documents
    for text_range in ranges:
      for ids, ends_document in _token_ids(text_range, tokenizer):
        n_documents += ends_document
        yield ids

  n_tokens, crc = write_array(file, all_ids(), dtype)
  return Shard(name, n_tokens, crc, n_documents)


def write_array(
  file: IO[bytes], parts: Iterable[np.ndarray], dtype: str, crc: int = 0
) -> tuple[int, int]:
  """Writes a .npy file whose length is not known in advance.

  Args:
    file: an empty file, open for writing.
    parts: token ids, each int [n].
    dtype: of the file.
    crc: the checksum of preceding data.

  Returns:
    The number of tokens, and the checksum.
  """
  n_tokens = 0
  _write_header(file, dtype, 0)
  for ids in parts:
    content = ids.astype(dtype).tobytes()
    crc = zlib.crc32(content, crc)
    file.write(content)
    n_tokens += len(ids)
  # The header has the same length as before, as it is padded for any count.
  file.seek(0)
  _write_header(file, dtype, n_tokens)
  return n_tokens, crc


def _token_ids(
  text_range: TextRange, tokenizer: Tokenizer
) -> Iterator[tuple[np.ndarray, bool]]:
  """Yields (token ids, whether they end a document)."""
  end = np.array([tokenizer.boundary], np.int32)
  for document in documents(text_range, tokenizer.cuts):
    for text in document:
      yield tokenizer.encode(text), False
    if text_range.ends_document or text_range.has_records:
      yield end, True


def _write_header(file: IO[bytes], dtype: str, n_tokens: int) -> None:
  # NumPy pads the header so that the first axis can grow to 21 digits.
  np.lib.format.write_array_header_1_0(
    file,
    {
      'descr': np.lib.format.dtype_to_descr(np.dtype(dtype)),
      'fortran_order': False,
      'shape': (n_tokens,),
    },
  )


def write_manifest(
  folder: str | Path, shards: list[Shard], tokenizer: Tokenizer, dtype: str
) -> Manifest:
  """Writes the manifest, which marks the directory as complete."""
  folder = Path(folder)
  manifest = Manifest(
    dtype, tokenizer.vocab_size, tuple(s for s in shards if s.n_tokens)
  )
  write_text(folder / MANIFEST, json.dumps(manifest.to_json(), indent=2) + '\n')
  for shard in shards:
    (folder / shard.name).with_suffix('.json').unlink(missing_ok=True)
    if not shard.n_tokens:
      (folder / shard.name).unlink(missing_ok=True)
  return manifest
