"""Opens compressed and columnar text files like plain ones.

The libraries for them are imported only when they are needed.
"""

import contextlib
import gzip
import importlib
import io
import os
import zlib
from collections.abc import Iterator
from typing import IO, Any, cast

from minigpt.errors import InputError

COMPRESSED = ('.gz', '.zst')
PARQUET = '.parquet'
_BUFFER = 1 << 20  # Bytes of text.
_READ = 1 << 14  # Bytes of Zstandard, which may expand ten thousand times.
# Assumed ratio of the size of text to that of its compressed file.
_COMPRESSION = 4
_ROWS = 256  # Rows of Parquet read at a time.


def is_compressed(path: str) -> bool:
  """Tells whether a file is compressed; Parquet counts as compressed."""
  return path.endswith((*COMPRESSED, PARQUET))


def text_size(path: str) -> int:
  """Estimates the bytes of text in a file; 0 if the file does not exist."""
  try:
    size = os.path.getsize(path)
  except OSError:  # The function that reads the file will report the error.
    return 0
  return size * _COMPRESSION if is_compressed(path) else size


def open_text(path: str) -> IO[bytes]:
  """Opens a file, compressed or not."""
  if path.endswith('.gz'):
    return cast(IO[bytes], gzip.open(path, 'rb'))
  if path.endswith('.zst'):
    return cast(IO[bytes], io.BufferedReader(_ZstdFile(path), _BUFFER))
  return open(path, 'rb')


class _ZstdFile(io.RawIOBase):
  """The text of a Zstandard file, which may have several frames."""

  def __init__(self, path: str):
    self._file = open(path, 'rb')  # noqa: SIM115
    self._blocks = self._decompressed(_import('zstandard', path, 'text'))
    self._block = b''

  def _decompressed(self, zstandard: Any) -> Iterator[bytes]:
    rest = self._file.read(_READ)
    while rest:
      frame = zstandard.ZstdDecompressor().decompressobj()
      while not frame.eof:
        if not rest:
          raise EOFError('it is cut short')
        try:
          yield frame.decompress(rest)
        except zstandard.ZstdError as error:
          raise OSError(str(error)) from None
        rest = frame.unused_data or self._file.read(_READ)

  def readable(self) -> bool:
    return True

  def seekable(self) -> bool:
    return True

  def seek(self, offset: int, whence: int = 0) -> int:
    return offset  # Only called to seek to 0, at the beginning.

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


def rows(path: str) -> Iterator[Iterator[str]]:
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
def read_errors(path: str) -> Iterator[None]:
  """Turns errors of reading and decompressing into InputErrors."""
  try:
    yield
  except (OSError, EOFError, zlib.error) as error:
    reason = getattr(error, 'strerror', None) or error
    raise InputError(f'{path}: {reason}') from None
