"""Reads text files: plain, JSON lines or Parquet, possibly compressed.

A document is a plain file, or the `text` of a line of `.jsonl` or of a row of
`.parquet`. `.gz` and `.zst` are decompressed. Unless raw text is wanted, a byte
order mark at the start of a plain file is dropped, and line ends CR LF become
LF.
"""

import codecs
import itertools
import json
import os
import sys
from collections.abc import Callable, Iterable, Iterator
from typing import IO, NamedTuple, TypeVar

from minigpt.config.validation import as_strings
from minigpt.data.text_formats import (
  COMPRESSED,
  PARQUET,
  is_compressed,
  open_text,
  read_errors,
  rows,
)
from minigpt.errors import InputError
from minigpt.tokenizers import cuts as places
from minigpt.tokenizers.cuts import ANYWHERE, Cuts

_READ = 1 << 20  # Bytes read at a time.
_LINE_LIMIT = 1 << 28
_LONGEST_UNCUT = 1 << 24  # Characters buffered while no place to cut is found.
_CONTINUING = bytes(range(0x80, 0xC0))  # No UTF-8 character begins with these.

_T = TypeVar('_T')


class TextRange(NamedTuple):
  """The bytes `start` to `stop` of a file; always all of a compressed one."""

  path: str
  start: int
  stop: int
  ends_document: bool
  raw: bool = False  # whether to keep byte order marks and line ends

  @property
  def is_whole(self) -> bool:
    """Tells whether the file can only be read as a whole."""
    return is_compressed(self.path)

  @property
  def has_records(self) -> bool:
    """Tells whether the file holds several documents."""
    return self.path.endswith(PARQUET) or self.is_jsonl

  @property
  def is_jsonl(self) -> bool:
    """Tells whether each line of the file is a document."""
    stem, extension = os.path.splitext(self.path)
    name = stem if extension in COMPRESSED else self.path
    return name.endswith('.jsonl')


def whole_file(path: str, raw: bool = False) -> TextRange:
  """Returns the range of a whole file.

  Args:
    path: the file.
    raw: keep byte order marks and line ends.

  Raises:
    InputError: the file cannot be read.
  """
  with read_errors(path):
    return TextRange(path, 0, os.path.getsize(path), True, raw)


def split_file(
  path: str, size: int, cuts: Cuts, raw: bool = False
) -> list[TextRange]:
  """Splits a file into ranges of about `size` bytes.

  Args:
    path: the file.
    size: of a range.
    cuts: the places at which plain text may be cut.
    raw: keep byte order marks and line ends.

  Raises:
    InputError: the file cannot be read, or has no place to cut for too long.
  """
  whole = whole_file(path, raw)
  if whole.is_whole:
    return [whole]
  starts = [0]
  with read_errors(path), open(path, 'rb') as file:
    while starts[-1] + size < whole.stop:
      start = starts[-1] + size
      if whole.is_jsonl:
        file.seek(start)
        file.readline()
        starts.append(file.tell())
      else:
        starts.append(_next_cut(file, start, cuts))
  stops = [*starts[1:], whole.stop]
  return [
    whole._replace(start=start, stop=stop, ends_document=stop == whole.stop)
    for start, stop in zip(starts, stops, strict=True)
    if start < stop or not whole.stop
  ]


def _next_cut(file: IO[bytes], start: int, cuts: Cuts) -> int:
  """Returns the first place to cut after byte `start`, or the file's end."""
  file.seek(start)
  begun = file.read(3)
  start += len(begun) - len(begun.lstrip(_CONTINUING))
  file.seek(start)
  # Invalid UTF-8 keeps its length here; reading the range will report it.
  decoder = codecs.getincrementaldecoder('utf-8')('surrogateescape')
  text, n_passed = '', 0
  while block := file.read(_READ):
    text += decoder.decode(block)
    if end := places.first(cuts, text):
      return start + len(text[:end].encode('utf-8', 'surrogateescape'))
    # A place to cut needs a character on each side, so keep the last one.
    passed, text = text[:-1], text[-1:]
    start += len(passed.encode('utf-8', 'surrogateescape'))
    n_passed += len(passed)
    if n_passed > _LONGEST_UNCUT:
      raise _uncut(f'{file.name}, byte {start:,}')
  return file.tell()


def _uncut(place: str) -> InputError:
  return InputError(
    f'{place}: {_LONGEST_UNCUT:,} characters without a place at which tokens '
    'can be separated; break the text into lines, or use --tokenizer=char'
  )


def documents(text_range: TextRange, cuts: Cuts) -> Iterator[Iterator[str]]:
  """Yields the documents of a range, each as successive parts of its text.

  Args:
    text_range: of a file.
    cuts: the places at which parts may end.

  Raises:
    InputError: the text is not UTF-8, a line is not an object with a `text`, or
      the text has no place to cut for too long.
  """
  found = _documents(text_range, cuts)
  if text_range.raw:
    return found
  has_mark = not text_range.has_records and text_range.start == 0
  return (_normalized(document, has_mark) for document in found)


def _normalized(parts: Iterable[str], has_mark: bool) -> Iterator[str]:
  for i, part in enumerate(parts):
    # Parts never end between CR and LF.
    text = part.removeprefix('\ufeff') if has_mark and i == 0 else part
    yield text.replace('\r\n', '\n')


def _documents(text_range: TextRange, cuts: Cuts) -> Iterator[Iterator[str]]:
  if text_range.path.endswith(PARQUET):
    yield from rows(text_range.path)
    return
  left = None if text_range.is_whole else text_range.stop - text_range.start
  with read_errors(text_range.path):
    file = open_text(text_range.path)
  with file:
    file.seek(text_range.start)
    if text_range.is_jsonl:
      yield from _lines(file, text_range, left)
    else:
      yield _decoded(_blocks(file, text_range, left), text_range, cuts)


def _blocks(
  file: IO[bytes], text_range: TextRange, left: int | None
) -> Iterator[bytes]:
  """Yields the next `left` bytes (None: all) a block at a time."""
  while left != 0:
    with read_errors(text_range.path):
      block = file.read(_READ if left is None else min(_READ, left))
    if not block:
      return
    left = None if left is None else left - len(block)
    yield block


def _decoded(
  blocks: Iterator[bytes], text_range: TextRange, cuts: Cuts
) -> Iterator[str]:
  """Yields text in parts that end at the places of `cuts`."""
  decoder, kept = codecs.getincrementaldecoder('utf-8')(), ''
  first = given = text_range.start
  try:
    for block in itertools.chain(blocks, [b'']):
      # The decoder may hold the first bytes of a character.
      first = given - len(decoder.getstate()[0])
      kept += decoder.decode(block, final=not block)
      given += len(block)
      end = places.last(cuts, kept) if block else len(kept)
      if end:
        yield kept[:end]
        kept = kept[end:]
      elif len(kept) > _LONGEST_UNCUT:
        raise _uncut(f'{text_range.path}, byte {given:,}')
  except UnicodeDecodeError as error:
    raise InputError(
      f'{text_range.path} is not UTF-8 (byte {first + error.start}); convert '
      'it, for example with iconv, or give --skip_bad_files'
    ) from None


def recut(texts: Iterable[str], size: int, cuts: Cuts) -> Iterator[str]:
  """Yields text in parts of about `size` characters.

  Args:
    texts: the text, in parts of any size.
    size: characters to collect before a part is cut off.
    cuts: the places at which parts may end.

  Raises:
    InputError: the text has no place to cut for too long.
  """
  kept: list[str] = []
  n = 0
  for text in texts:
    kept.append(text)
    n += len(text)
    if n < size:
      continue
    whole = ''.join(kept)
    end = places.last(cuts, whole)
    if end:
      yield whole[:end]
    elif n > _LONGEST_UNCUT:
      raise _uncut('the text')
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
    with read_errors(text_range.path):
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
    text.encode()  # Raises an error for lone surrogates.
    return text
  except (KeyError, TypeError, AttributeError, ValueError, RecursionError):
    raise InputError(
      f"{place}: not a JSON object with a 'text' that is a string"
    ) from None


def joined(paths: Iterable[str], raw: bool = False) -> Iterator[str]:
  """Yields files as one text, with a line feed between documents.

  Parts end anywhere but between CR and LF.

  Raises:
    InputError: a file cannot be read, or does not match its name's ending.
  """
  for i, path in enumerate(paths):
    if i:
      yield '\n'
    for k, document in enumerate(documents(whole_file(path, raw), ANYWHERE)):
      if k:
        yield '\n'
      yield from document


def parts(paths: Iterable[str], cuts: Cuts, raw: bool = False) -> Iterator[str]:
  """Yields the text of files in parts, which end at places of `cuts`.

  Raises:
    InputError: a file cannot be read, does not match its name's ending, or has
      no place to cut for too long.
  """
  for path in as_strings(paths):
    for document in documents(whole_file(path, raw), cuts):
      yield from document


def readable(
  paths: list[str], read: Callable[[str], _T]
) -> list[tuple[str, _T]]:
  """Reads files; skips unreadable ones, and prints their names and number.

  Args:
    paths: the files.
    read: reads a whole file.

  Returns:
    Path and result of each readable file.

  Raises:
    InputError: no file can be read.
  """
  good = []
  for path in paths:
    try:
      good.append((path, read(path)))
    except InputError as error:
      print(f'skipped: {error}', file=sys.stderr)
  if not good:
    raise InputError(f'none of {len(paths)} files can be read')
  if len(good) < len(paths):
    n_bad = len(paths) - len(good)
    print(f'{n_bad} of {len(paths)} files skipped', file=sys.stderr)
  return good


def text_length(path: str, raw: bool = False) -> int:
  """Counts the characters of a file, as `joined` yields them.

  Raises:
    InputError: the file cannot be read, or does not match its name's ending.
  """
  return sum(map(len, joined([path], raw)))
