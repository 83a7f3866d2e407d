"""Files of text as people have them: plain, JSON lines, Parquet, compressed.

A plain file is one document, a line of `.jsonl` and a row of `.parquet` is one
each, by its `text`. `.gz` and `.zst` are read through. Unless text is wanted as
it is, a byte order mark at the start of a plain file is dropped, and the line
ends of Windows, CR LF, become LF everywhere.
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
_LONGEST_UNCUT = 1 << 24  # Characters that are held for want of a place.
_CONTINUING = bytes(range(0x80, 0xC0))  # No character of UTF-8 begins so.

_T = TypeVar('_T')


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
    return self.path.endswith(PARQUET) or self.is_jsonl

  @property
  def is_jsonl(self) -> bool:
    """Tells whether each line of the file is a document."""
    stem, extension = os.path.splitext(self.path)
    name = stem if extension in COMPRESSED else self.path
    return name.endswith('.jsonl')


def whole_file(path: str, raw: bool = False) -> TextRange:
  """Returns all of a file.

  Args:
    path: the file.
    raw: leave byte order marks and line ends as they are.

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
    cuts: where that is possible.
    raw: leave byte order marks and line ends as they are.

  Raises:
    InputError: the file cannot be read, or not be cut for too long.
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
  """Returns the first place from the byte `start` on; the end without one."""
  file.seek(start)
  begun = file.read(3)
  start += len(begun) - len(begun.lstrip(_CONTINUING))
  file.seek(start)
  # What is no UTF-8 keeps its length, and whoever reads the range refuses it.
  decoder = codecs.getincrementaldecoder('utf-8')('surrogateescape')
  text, n_passed = '', 0
  while block := file.read(_READ):
    text += decoder.decode(block)
    if end := places.first(cuts, text):
      return start + len(text[:end].encode('utf-8', 'surrogateescape'))
    # A place has a character on each side, so the last one is kept.
    passed, text = text[:-1], text[-1:]
    start += len(passed.encode('utf-8', 'surrogateescape'))
    n_passed += len(passed)
    if n_passed > _LONGEST_UNCUT:
      raise _uncut(f'{file.name}, byte {start:,}')
  return file.tell()


def _uncut(place: str) -> InputError:
  return InputError(
    f'{place}: nothing for {_LONGEST_UNCUT:,} characters at which tokens can '
    'be set apart; break the text into lines, or use --tokenizer=char'
  )


def documents(text_range: TextRange, cuts: Cuts) -> Iterator[Iterator[str]]:
  """Yields the documents of a range, each as successive parts of its text.

  Args:
    text_range: of a file.
    cuts: where parts may end.

  Raises:
    InputError: the text is not UTF-8, a line is no object with a `text`, or it
      cannot be cut for too long.
  """
  found = _documents(text_range, cuts)
  if text_range.raw:
    return found
  has_mark = not text_range.has_records and text_range.start == 0
  return (_normalized(document, has_mark) for document in found)


def _normalized(parts: Iterable[str], has_mark: bool) -> Iterator[str]:
  for i, part in enumerate(parts):
    # No part ends between CR and LF.
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
      # The decoder may have kept the beginning of a character.
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
    texts: the same text in any parts.
    size: characters that are gathered before a part is cut off.
    cuts: where parts may end.

  Raises:
    InputError: the text cannot be cut for too long.
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
    text.encode()  # Lone surrogates are no text.
    return text
  except (KeyError, TypeError, AttributeError, ValueError, RecursionError):
    raise InputError(
      f"{place}: not a JSON object with a 'text' that is a string"
    ) from None


def joined(paths: Iterable[str], raw: bool = False) -> Iterator[str]:
  """Yields files as one text; each document stands on lines of its own.

  Parts end anywhere, but not between CR and LF.

  Raises:
    InputError: a file cannot be read, or is not what its name says.
  """
  for i, path in enumerate(paths):
    if i:
      yield '\n'
    for k, document in enumerate(documents(whole_file(path, raw), ANYWHERE)):
      if k:
        yield '\n'
      yield from document


def parts(paths: Iterable[str], cuts: Cuts, raw: bool = False) -> Iterator[str]:
  """Yields the text of files in parts, which end at the places of `cuts`.

  Raises:
    InputError: a file cannot be read, is not what its name says, or cannot be
      cut for too long.
  """
  for path in as_strings(paths):
    for document in documents(whole_file(path, raw), cuts):
      yield from document


def readable(
  paths: list[str], read: Callable[[str], _T]
) -> list[tuple[str, _T]]:
  """Reads files, and returns what of each that can be; names, counts others.

  Args:
    paths: the files.
    read: reads one to its end.

  Raises:
    InputError: none can be read.
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
  """Returns the characters of a file, as `joined` yields them.

  Raises:
    InputError: it cannot be read, or is not what its name says.
  """
  return sum(map(len, joined([path], raw)))
