"""Files of text as people have them: plain, JSON lines, Parquet, compressed.

A plain file is one document, a line of `.jsonl` and a row of `.parquet` is one
each, by its `text`. `.gz` and `.zst` are read through. Unless text is wanted as
it is, a byte order mark at the start of a plain file is dropped, and the line
ends of Windows, CR LF, become LF everywhere.
"""

import codecs
import contextlib
import gzip
import importlib
import io
import itertools
import json
import os
import re
import sys
import zlib
from collections.abc import Iterable, Iterator
from typing import IO, Any, NamedTuple, cast

from minigpt.config.validation import as_strings
from minigpt.errors import InputError

_READ = 1 << 20  # Bytes read at a time.
_READ_ZSTD = 1 << 14  # They may become ten thousand times as many.
_ROWS = 256  # Of Parquet, read at a time.
_LINE_LIMIT = 1 << 28
# Between something visible and white space, no tokenizer has a token. Bytes
# are split after ASCII only: what else is white space takes several.
_BOUNDARY = re.compile(rb'[!-~](?=[ \n])')
_TEXT_BOUNDARY = re.compile(r'\S(?=[ \n])')
_TEXT_TAIL = 4096  # Characters in which a boundary is looked for.
_COMPRESSED = ('.gz', '.zst')
_PARQUET = '.parquet'


class TextRange(NamedTuple):
  """The bytes `start` to `stop` of a file; all, where only all can be read."""

  path: str
  start: int
  stop: int
  ends_document: bool
  raw: bool = False  # Text is wanted as it is.

  @property
  def is_whole(self) -> bool:
    """Tells whether the file can only be read from its beginning to its end."""
    return is_compressed(self.path)

  @property
  def has_records(self) -> bool:
    """Tells whether the file holds several documents."""
    return self.path.endswith(_PARQUET) or self.is_jsonl

  @property
  def is_jsonl(self) -> bool:
    """Tells whether each line of the file is a document."""
    stem, extension = os.path.splitext(self.path)
    name = stem if extension in _COMPRESSED else self.path
    return name.endswith('.jsonl')


def is_compressed(path: str) -> bool:
  """Tells whether a file holds its text compressed, as Parquet does, too."""
  return path.endswith((*_COMPRESSED, _PARQUET))


def split_file(path: str, size: int, raw: bool = False) -> list[TextRange]:
  """Splits a file into ranges of about `size` bytes.

  Args:
    path: the file.
    size: of a range.
    raw: leave byte order marks and line ends as they are.

  Raises:
    InputError: the file cannot be read.
  """
  try:
    n = os.path.getsize(path)
    whole = TextRange(path, 0, n, True, raw)
    if whole.is_whole:
      return [whole]
    with open(path, 'rb') as file:
      starts = [0]
      while starts[-1] + size < n:
        starts.append(_next_boundary(file, starts[-1] + size, whole.is_jsonl))
  except OSError as error:
    raise InputError(f'{path}: {error.strerror}') from None
  stops = [*starts[1:], n]
  return [
    whole._replace(start=start, stop=stop, ends_document=stop == n)
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
  found = _documents(text_range)
  if text_range.raw:
    return found
  has_mark = not text_range.has_records and text_range.start == 0
  return (_normalized(document, has_mark) for document in found)


def _normalized(parts: Iterable[str], has_mark: bool) -> Iterator[str]:
  for i, part in enumerate(parts):
    # No part ends between the two: it ends before a blank or a line feed.
    text = part.removeprefix('\ufeff') if has_mark and i == 0 else part
    yield text.replace('\r\n', '\n')


def _documents(text_range: TextRange) -> Iterator[Iterator[str]]:
  if text_range.path.endswith(_PARQUET):
    yield from _rows(text_range.path)
    return
  left = None if text_range.is_whole else text_range.stop - text_range.start
  with _read_errors(text_range.path):
    file = _open(text_range.path)
  with file:
    file.seek(text_range.start)
    if text_range.is_jsonl:
      yield from _lines(file, text_range, left)
    else:
      yield _decoded(_blocks(file, text_range, left), text_range)


def _open(path: str) -> IO[bytes]:
  """Opens a file, compressed or not."""
  if path.endswith('.gz'):
    return cast(IO[bytes], gzip.open(path, 'rb'))
  if path.endswith('.zst'):
    return cast(IO[bytes], io.BufferedReader(_ZstdFile(path), _READ))
  return open(path, 'rb')


class _ZstdFile(io.RawIOBase):
  """The text of a Zstandard file, which may have several frames."""

  def __init__(self, path: str):
    self._file = open(path, 'rb')  # noqa: SIM115
    self._blocks = self._decompressed(_import('zstandard', path, 'text'))
    self._block = b''

  def _decompressed(self, zstandard: Any) -> Iterator[bytes]:
    rest = self._file.read(_READ_ZSTD)
    while rest:
      frame = zstandard.ZstdDecompressor().decompressobj()
      while not frame.eof:
        if not rest:
          raise EOFError('it is cut short')
        try:
          yield frame.decompress(rest)
        except zstandard.ZstdError as error:
          raise OSError(str(error)) from None
        rest = frame.unused_data or self._file.read(_READ_ZSTD)

  def readable(self) -> bool:
    return True

  def seekable(self) -> bool:
    return True

  def seek(self, offset: int, whence: int = 0) -> int:
    return offset  # To the beginning, where it is.

  def readinto(self, buffer: Any) -> int:
    while not self._block:
      block = next(self._blocks, None)
      if block is None:
        return 0
      self._block = block
    n = min(len(buffer), len(self._block))
    buffer[:n], self._block = self._block[:n], self._block[n:]
    return n

  def close(self) -> None:
    self._file.close()
    super().close()


def _import(library: str, path: str, extra: str) -> Any:
  try:
    return importlib.import_module(library)
  except ImportError:
    raise InputError(
      f'{path}: to read it, install {library.partition(".")[0]}: pip install '
      f"'minigpt[{extra}]'"
    ) from None


def _rows(path: str) -> Iterator[Iterator[str]]:
  """Yields the `text` of each row of a Parquet file."""
  parquet = _import('pyarrow.parquet', path, 'text')
  try:
    with parquet.ParquetFile(path) as file:
      if 'text' not in file.schema_arrow.names:
        raise InputError(f"{path}: it has no column 'text'")
      for batch in file.iter_batches(_ROWS, columns=['text']):
        for text in batch.column(0).to_pylist():
          if not isinstance(text, str):
            raise InputError(f"{path}: the 'text' of a row is {text!r:.40}")
          yield iter([text])
  except (OSError, ValueError, NotImplementedError) as error:
    raise InputError(f'{path}: {str(error).splitlines()[0]:.200}') from None


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
  first = given = text_range.start
  try:
    for block in itertools.chain(blocks, [b'']):
      # The decoder may have kept the beginning of a character.
      first = given - len(decoder.getstate()[0])
      kept += decoder.decode(block, final=not block)
      given += len(block)
      end = _last_boundary(kept)
      if end and block:
        yield kept[:end]
        kept = kept[end:]
    yield kept
  except UnicodeDecodeError as error:
    raise InputError(
      f'{text_range.path} is not UTF-8 (byte {first + error.start}); convert '
      'it, for example with iconv, or give --skip_bad_files'
    ) from None


def _last_boundary(text: str) -> int:
  """Returns the last place that no token spans; 0 where there is none."""
  tail = max(len(text) - _TEXT_TAIL, 0)
  ends = [m.end() for m in _TEXT_BOUNDARY.finditer(text, tail)]
  return ends[-1] if ends else 0


def recut(texts: Iterable[str], size: int) -> Iterator[str]:
  """Yields text in parts of about `size` characters that no token spans.

  Args:
    texts: the same text in any parts.
    size: characters that are gathered before a part is cut off.
  """
  kept: list[str] = []
  n = 0
  for text in texts:
    kept.append(text)
    n += len(text)
    if n < size:
      continue
    whole = ''.join(kept)
    end = _last_boundary(whole)
    if end:
      yield whole[:end]
    kept, n = [whole[end:]], n - end
  if n:
    yield ''.join(kept)


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


def joined(paths: Iterable[str], raw: bool = False) -> Iterator[str]:
  """Yields files as one text; each document stands on lines of its own.

  Raises:
    InputError: a file cannot be read, or is not what its name says.
  """
  for i, path in enumerate(paths):
    if i:
      yield '\n'
    [whole] = split_file(path, sys.maxsize, raw)
    for k, document in enumerate(documents(whole)):
      if k:
        yield '\n'
      yield from document


def parts(paths: Iterable[str], raw: bool = False) -> Iterator[str]:
  """Yields the text of files piece by piece; no token spans a boundary.

  Raises:
    InputError: a file cannot be read, or is not what its name says.
  """
  for path in as_strings(paths):
    for text_range in split_file(path, sys.maxsize, raw):
      for document in documents(text_range):
        yield from document


def drop_bad(paths: list[str]) -> list[str]:
  """Returns the files that can be read to their end; names and counts others.

  Raises:
    InputError: none can be read.
  """
  good = [path for path in paths if not _fault(path)]
  if not good:
    raise InputError(f'none of {len(paths)} files can be read')
  if len(good) < len(paths):
    n_bad = len(paths) - len(good)
    print(f'{n_bad} of {len(paths)} files skipped', file=sys.stderr)
  return good


def _fault(path: str) -> str:
  """Reads a file and drops it; returns what is wrong with it, and says so."""
  try:
    for _ in parts([path]):
      pass
  except InputError as error:
    print(f'skipped: {error}', file=sys.stderr)
    return str(error)
  return ''
