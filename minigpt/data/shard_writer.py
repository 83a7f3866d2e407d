"""Text to token shards, in bounded memory and by several processes.

The text is cut into pieces where no token can span the cut; each becomes one
shard, written whole or not at all, with its description beside it. A
preparation that was killed goes on with the pieces that are missing.
"""

import codecs
import contextlib
import functools
import gzip
import json
import os
import re
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO, NamedTuple

import numpy as np

from minigpt import tokenizers
from minigpt.data.token_shards import Manifest, Shard
from minigpt.errors import InputError
from minigpt.runtime.atomic_io import fsync, write_text
from minigpt.tokenizers import Tokenizer

_READ = 1 << 20
_LINE_LIMIT = 1 << 28
# Between something visible and white space, no tokenizer has a token. Bytes
# are cut after ASCII only: what else is white space takes several.
_CUT = re.compile(rb'[!-~](?=[ \n])')
_TEXT_CUT = re.compile(r'\S(?=[ \n])')


class Piece(NamedTuple):
  """The bytes `start` to `stop` of a file; of a gzip file, always all."""

  path: str
  start: int
  stop: int
  ends_document: bool


def cut(path: str, size: int) -> list[Piece]:
  """Cuts a file into pieces of about `size` bytes.

  Raises:
    InputError: the file cannot be read.
  """
  try:
    n = os.path.getsize(path)
    if path.endswith('.gz'):
      return [Piece(path, 0, n, True)]
    with open(path, 'rb') as file:
      starts = [0]
      while starts[-1] + size < n:
        starts.append(_next_cut(file, starts[-1] + size, _is_jsonl(path)))
  except OSError as error:
    raise InputError(f'{path}: {error.strerror}') from None
  stops = [*starts[1:], n]
  return [
    Piece(path, start, stop, stop == n)
    for start, stop in zip(starts, stops, strict=True)
    if start < stop or n == 0
  ]


def _is_jsonl(path: str) -> bool:
  return path.removesuffix('.gz').endswith('.jsonl')


def _next_cut(file: IO[bytes], start: int, by_line: bool) -> int:
  """The first place from `start` on where the file may be cut."""
  file.seek(start)
  if by_line:
    file.readline()
    return file.tell()
  before = b''
  while block := file.read(_READ):
    found = _CUT.search(before + block)
    if found:
      return start - len(before) + found.end()
    start, before = start + len(block), block[-1:]
  return start


def documents(piece: Piece) -> Iterator[Iterator[str]]:
  """The documents of a piece, each as successive parts of its text.

  Raises:
    InputError: the text is not UTF-8, or a line is no object with a `text`.
  """
  is_gzip = piece.path.endswith('.gz')
  left = None if is_gzip else piece.stop - piece.start
  with _read_faults(piece.path):
    file = (gzip.open if is_gzip else open)(piece.path, 'rb')
  with file:
    file.seek(piece.start)
    if _is_jsonl(piece.path):
      yield from _lines(file, piece, left)
    else:
      yield _decoded(_blocks(file, piece, left), piece)


@contextlib.contextmanager
def _read_faults(path: str) -> Iterator[None]:
  try:
    yield
  except (OSError, EOFError, zlib.error) as error:
    reason = getattr(error, 'strerror', None) or error
    raise InputError(f'{path}: {reason}') from None


def _blocks(file: IO[bytes], piece: Piece, left: int | None) -> Iterator[bytes]:
  while left != 0:
    with _read_faults(piece.path):
      block = file.read(_READ if left is None else min(_READ, left))
    if not block:
      return
    left = None if left is None else left - len(block)
    yield block


def _decoded(blocks: Iterator[bytes], piece: Piece) -> Iterator[str]:
  """Text in parts that end where no token spans the end."""
  decoder, kept = codecs.getincrementaldecoder('utf-8')(), ''
  try:
    for block in blocks:
      kept += decoder.decode(block)
      cuts = [
        m.end() for m in _TEXT_CUT.finditer(kept, max(len(kept) - 4096, 0))
      ]
      if cuts:
        yield kept[: cuts[-1]]
        kept = kept[cuts[-1] :]
    yield kept + decoder.decode(b'', final=True)
  except UnicodeDecodeError as error:
    raise InputError(
      f'{piece.path} is not UTF-8 after byte {piece.start} ({error.reason}); '
      'convert it, for example with iconv'
    ) from None


def _lines(
  file: IO[bytes], piece: Piece, left: int | None
) -> Iterator[Iterator[str]]:
  number = 0
  while left != 0:
    with _read_faults(piece.path):
      line = file.readline(_LINE_LIMIT if left is None else left)
    if not line:
      return
    left = None if left is None else left - len(line)
    number += 1
    if line.strip():
      yield iter([_text_field(line, f'{piece.path}, line {number}', piece)])


def _text_field(line: bytes, place: str, piece: Piece) -> str:
  after = f' after byte {piece.start}' if piece.start else ''
  try:
    text = json.loads(line)['text']
    text.encode()  # Lone surrogates are no text.
    return text
  except (KeyError, TypeError, AttributeError, ValueError, RecursionError):
    raise InputError(
      f"{place}{after}: not a JSON object with a 'text' that is a string"
    ) from None


def write_shard(piece: Piece, folder: Path, number: int, dtype: str) -> Shard:
  """Tokenizes one piece; a shard that is there already stays as it is.

  Raises:
    InputError: the text or the disk does not allow it; nothing is left behind.
  """
  path = folder / f'shard-{number:05}.npy'
  sidecar = path.with_suffix('.json')
  if sidecar.is_file() and path.is_file():
    return Shard(**json.loads(sidecar.read_text(encoding='utf-8')))
  scratch = path.with_name(f'.tmp-{path.name}-{os.getpid()}')
  try:
    with open(scratch, 'wb') as file:
      shard = _write_tokens(file, piece, path.name, dtype, _tokenizer(folder))
    fsync(scratch)
    scratch.replace(path)
  except OSError as error:
    raise InputError(f'{path} could not be written: {error.strerror}') from None
  finally:
    scratch.unlink(missing_ok=True)
  write_text(sidecar, json.dumps(shard._asdict()))
  return shard


@functools.cache
def _tokenizer(folder: Path) -> Tokenizer:
  return tokenizers.load(folder / 'tokenizer.json')


def _write_tokens(
  file: IO[bytes], piece: Piece, name: str, dtype: str, tokenizer: Tokenizer
) -> Shard:
  """The header is written twice: its length does not depend on the count."""
  n_tokens = n_documents = crc = 0
  _write_header(file, dtype, 0)
  for ids, ends in _token_ids(piece, tokenizer):
    content = ids.astype(dtype).tobytes()
    crc = zlib.crc32(content, crc)
    file.write(content)
    n_tokens += len(ids)
    n_documents += ends
  file.seek(0)
  _write_header(file, dtype, n_tokens)
  return Shard(name, n_tokens, crc, n_documents)


def _token_ids(
  piece: Piece, tokenizer: Tokenizer
) -> Iterator[tuple[np.ndarray, bool]]:
  """Ids, and whether they end a document."""
  end = np.array([tokenizer.end_of_text], np.int32)
  for document in documents(piece):
    for text in document:
      yield tokenizer.encode(text), False
    if piece.ends_document or _is_jsonl(piece.path):
      yield end, True


def _write_header(file: IO[bytes], dtype: str, n_tokens: int) -> None:
  # NumPy pads its header so that a first axis may grow to 21 digits.
  np.lib.format.write_array_header_1_0(
    file,
    {
      'descr': np.lib.format.dtype_to_descr(np.dtype(dtype)),
      'fortran_order': False,
      'shape': (n_tokens,),
    },
  )


def finish(folder: Path, shards: list[Shard], tokenizer: Tokenizer, dtype: str):
  """Writes the manifest, which makes the directory complete."""
  manifest = Manifest(
    dtype, tokenizer.vocab_size, tuple(s for s in shards if s.n_tokens)
  )
  write_text(
    folder / 'manifest.json', json.dumps(manifest.to_json(), indent=2) + '\n'
  )
  for shard in shards:
    (folder / shard.name).with_suffix('.json').unlink(missing_ok=True)
    if not shard.n_tokens:
      (folder / shard.name).unlink(missing_ok=True)
  (folder / 'plan.json').unlink(missing_ok=True)
  return manifest
