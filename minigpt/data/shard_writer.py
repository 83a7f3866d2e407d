"""Text to token shards, in bounded memory and by several processes.

Files are split where no token can span the boundary; a range of text, or
several small ones, become one shard, written whole or not at all, with its
description in a JSON file of the same name. A preparation that was killed
continues with the shards that are missing.
"""

import codecs
import contextlib
import functools
import gzip
import itertools
import json
import os
import re
import zlib
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import IO, NamedTuple, cast

import numpy as np

from minigpt import tokenizers
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

_READ = 1 << 20  # Bytes read at a time.
_LINE_LIMIT = 1 << 28
# Between something visible and white space, no tokenizer has a token. Bytes
# are split after ASCII only: what else is white space takes several.
_BOUNDARY = re.compile(rb'[!-~](?=[ \n])')
_TEXT_BOUNDARY = re.compile(r'\S(?=[ \n])')
_TEXT_TAIL = 4096  # Characters in which a boundary is looked for.


class TextRange(NamedTuple):
  """The bytes `start` to `stop` of a file; of a gzip file, always all."""

  path: str
  start: int
  stop: int
  ends_document: bool

  @property
  def is_gzip(self) -> bool:
    """Tells whether the file is compressed."""
    return self.path.endswith('.gz')

  @property
  def is_jsonl(self) -> bool:
    """Tells whether each line of the file is a document."""
    return self.path.removesuffix('.gz').endswith('.jsonl')


def split_file(path: str, size: int) -> list[TextRange]:
  """Splits a file into ranges of about `size` bytes.

  Raises:
    InputError: the file cannot be read.
  """
  try:
    n = os.path.getsize(path)
    whole = TextRange(path, 0, n, True)
    if whole.is_gzip:
      return [whole]
    with open(path, 'rb') as file:
      starts = [0]
      while starts[-1] + size < n:
        starts.append(_next_boundary(file, starts[-1] + size, whole.is_jsonl))
  except OSError as error:
    raise InputError(f'{path}: {error.strerror}') from None
  stops = [*starts[1:], n]
  return [
    TextRange(path, start, stop, stop == n)
    for start, stop in zip(starts, stops, strict=True)
    if start < stop or n == 0
  ]


def _next_boundary(file: IO[bytes], start: int, by_line: bool) -> int:
  """Returns the first place from `start` on where the file may be split."""
  file.seek(start)
  if by_line:
    file.readline()
    return file.tell()
  before = b''
  while block := file.read(_READ):
    found = _BOUNDARY.search(before + block)
    if found:
      return start - len(before) + found.end()
    # A boundary has a character on each side, so the last one is kept.
    start, before = start + len(block), block[-1:]
  return start


def documents(text_range: TextRange) -> Iterator[Iterator[str]]:
  """Yields the documents of a range, each as successive parts of its text.

  Raises:
    InputError: the text is not UTF-8, or a line is no object with a `text`.
  """
  left = None if text_range.is_gzip else text_range.stop - text_range.start
  with _read_errors(text_range.path):
    opened = (gzip.open if text_range.is_gzip else open)(text_range.path, 'rb')
  with opened:
    file = cast(IO[bytes], opened)
    file.seek(text_range.start)
    if text_range.is_jsonl:
      yield from _lines(file, text_range, left)
    else:
      yield _decoded(_blocks(file, text_range, left), text_range)


@contextlib.contextmanager
def _read_errors(path: str) -> Iterator[None]:
  """Turns what reading and decompressing may raise into an InputError."""
  try:
    yield
  except (OSError, EOFError, zlib.error) as error:
    reason = getattr(error, 'strerror', None) or error
    raise InputError(f'{path}: {reason}') from None


def _blocks(
  file: IO[bytes], text_range: TextRange, left: int | None
) -> Iterator[bytes]:
  """Yields the next `left` bytes (None: all) a block at a time."""
  while left != 0:
    with _read_errors(text_range.path):
      block = file.read(_READ if left is None else min(_READ, left))
    if not block:
      return
    left = None if left is None else left - len(block)
    yield block


def _decoded(blocks: Iterator[bytes], text_range: TextRange) -> Iterator[str]:
  """Yields text in parts that end where no token spans the end."""
  decoder, kept = codecs.getincrementaldecoder('utf-8')(), ''
  try:
    for block in blocks:
      kept += decoder.decode(block)
      tail = max(len(kept) - _TEXT_TAIL, 0)
      ends = [m.end() for m in _TEXT_BOUNDARY.finditer(kept, tail)]
      if ends:
        yield kept[: ends[-1]]
        kept = kept[ends[-1] :]
    yield kept + decoder.decode(b'', final=True)
  except UnicodeDecodeError as error:
    raise InputError(
      f'{text_range.path} is not UTF-8 after byte {text_range.start} '
      f'({error.reason}); convert it, for example with iconv'
    ) from None


def _lines(
  file: IO[bytes], text_range: TextRange, left: int | None
) -> Iterator[Iterator[str]]:
  """Yields the text of each JSON line among the next `left` bytes."""
  number = 0
  after = f' after byte {text_range.start}' if text_range.start else ''
  while left != 0:
    with _read_errors(text_range.path):
      line = file.readline(_LINE_LIMIT if left is None else left)
    if not line:
      return
    left = None if left is None else left - len(line)
    number += 1
    if line.strip():
      yield iter(
        [_text_field(line, f'{text_range.path}, line {number}{after}')]
      )


def _text_field(line: bytes, place: str) -> str:
  try:
    text = json.loads(line)['text']
    text.encode()  # Lone surrogates are no text.
    return text
  except (KeyError, TypeError, AttributeError, ValueError, RecursionError):
    raise InputError(
      f"{place}: not a JSON object with a 'text' that is a string"
    ) from None


def fill_shards(
  ranges: Iterable[TextRange], size: int
) -> list[list[TextRange]]:
  """Groups successive ranges into shards of up to about `size` bytes of text.

  So a thousand small files make a few shards, not a thousand files again.
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
  """Tokenizes ranges into one shard; one that is there stays as it is.

  Raises:
    InputError: the text or the disk does not allow it; nothing is left behind.
  """
  path = Path(folder) / f'shard-{number:05}.npy'
  sidecar = path.with_suffix('.json')
  if finished := _finished_shard(path, sidecar, dtype):
    return finished
  tokenizer = _load_tokenizer(Path(folder))
  with new_file(path) as scratch, open(scratch, 'wb') as file:
    shard = _write_tokens(file, ranges, path.name, dtype, tokenizer)
  write_text(sidecar, json.dumps(shard._asdict()))
  return shard


def _finished_shard(path: Path, sidecar: Path, dtype: str) -> Shard | None:
  """Returns the description of a shard that is there, and fits it.

  The folder may be anybody's: a description that names another file, or does
  not fit, counts as none, and the shard is made.
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


@functools.cache
def _load_tokenizer(folder: Path) -> Tokenizer:
  """Reads it once for all shards that this process writes."""
  return tokenizers.load(folder / 'tokenizer.json')


def _write_tokens(
  file: IO[bytes],
  ranges: Sequence[TextRange],
  name: str,
  dtype: str,
  tokenizer: Tokenizer,
) -> Shard:
  """Writes a .npy file whose length is known only at its end."""
  n_tokens = n_documents = crc = 0
  _write_header(file, dtype, 0)
  parts = (_token_ids(text_range, tokenizer) for text_range in ranges)
  for ids, ends_document in itertools.chain.from_iterable(parts):
    content = ids.astype(dtype).tobytes()
    crc = zlib.crc32(content, crc)
    file.write(content)
    n_tokens += len(ids)
    n_documents += ends_document
  # The header is as long as before: room for any count is padded.
  file.seek(0)
  _write_header(file, dtype, n_tokens)
  return Shard(name, n_tokens, crc, n_documents)


def _token_ids(
  text_range: TextRange, tokenizer: Tokenizer
) -> Iterator[tuple[np.ndarray, bool]]:
  """Yields token ids, and whether they end a document."""
  end = np.array([tokenizer.end_of_text], np.int32)
  for document in documents(text_range):
    for text in document:
      yield tokenizer.encode(text), False
    if text_range.ends_document or text_range.is_jsonl:
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


def write_manifest(
  folder: str | Path, shards: list[Shard], tokenizer: Tokenizer, dtype: str
) -> Manifest:
  """Writes the manifest, which makes the directory complete."""
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
