"""Atomic files and folders: complete or absent, even after a crash.

A file or folder is written under a temporary name in the same folder, flushed
to the disk, and renamed, which is atomic. The temporary name is random and
created exclusively; process ids would not be unique where several containers
share a volume.
"""

import contextlib
import errno
import os
import secrets
import shutil
import stat
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, TextIO

from minigpt.errors import InputError


def write_text(path: str | Path, text: str) -> None:
  """Writes `text` to the file in UTF-8, replacing it atomically.

  Raises:
    InputError: the file cannot be written; the previous one is untouched.
  """
  with new_file(path) as scratch:
    # The text may contain a path, which need not be valid Unicode.
    scratch.write_text(text, encoding='utf-8', errors='backslashreplace')


@contextlib.contextmanager
def new_file(path: str | Path) -> Iterator[Path]:
  """Yields a temporary path; at the end, the file there replaces `path`.

  Raises:
    InputError: an OSError was raised inside the context, or the file cannot be
      replaced; the previous file is untouched.
  """
  path, scratch = Path(path), None
  try:
    scratch = _create_beside(path, _touch)
    yield scratch
    fsync(scratch)
    scratch.replace(path)
  except OSError as error:
    raise _unwritable(path, error) from None
  finally:
    if scratch:
      scratch.unlink(missing_ok=True)


def check_writable(path: str | Path) -> None:
  """Checks that a file can be written, before the work that produces it.

  Raises:
    InputError: the file cannot be written.
  """
  path = Path(path)
  try:
    if path.is_dir():
      raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
    _create_beside(path, _touch).unlink()
  except OSError as error:
    raise _unwritable(path, error) from None


def _unwritable(path: Path, error: OSError) -> InputError:
  return InputError(
    f'{path} could not be written ({reason(error)}); free space, or choose '
    'another folder'
  )


@contextlib.contextmanager
def new_folder(
  path: str | Path,
  errors: tuple[type[Exception], ...] = (),
  parents: bool = True,
) -> Iterator[Path]:
  """Yields an empty temporary folder; at the end, renames it to `path`.

  Args:
    path: the folder, which must not exist.
    errors: exceptions besides OSError that count as a failure to write.
    parents: whether to create the parent folders of `path`.

  Raises:
    InputError: `path` exists, or cannot be written; nothing is left behind.
  """
  path, scratch = Path(path), None
  failures: tuple[type[Exception], ...] = (OSError, *errors)
  if path.exists():
    raise InputError(f'{path} exists already; choose another path')
  try:
    if parents:
      path.parent.mkdir(parents=True, exist_ok=True)
    scratch = _create_beside(path, Path.mkdir)
    yield scratch
    for file in scratch.rglob('*'):
      fsync(file)
    fsync(scratch)
    scratch.rename(path)
    fsync(path.parent)
  except failures as error:
    raise InputError(
      f'{path} could not be written ({reason(error)}); nothing was changed'
    ) from None
  finally:
    if scratch:
      shutil.rmtree(scratch, ignore_errors=True)


@contextlib.contextmanager
def unnamed_files() -> Iterator[Callable[[], IO[bytes]]]:
  """Yields a function that opens an unnamed file, for writing and reading.

  The file is in the folder for temporary files. The system deletes it when it
  is closed and no longer mapped, even if the process is killed.

  Raises:
    InputError: an OSError was raised inside the context.
  """
  with contextlib.ExitStack() as files:
    try:
      yield lambda: files.enter_context(tempfile.TemporaryFile())
    except OSError as error:
      raise InputError(
        f'a temporary file could not be written ({reason(error)}); free space, '
        'or name another folder in TMPDIR'
      ) from None


def delete_folder(path: Path) -> None:
  """Deletes a folder atomically: renames it first.

  Raises:
    OSError: the folder cannot be renamed.
  """
  if path.is_symlink():  # Leave the folder that it points to.
    path.unlink()
    return
  scratch = _create_beside(path, Path.mkdir)
  try:
    path.rename(scratch)  # A rename may replace an empty folder.
  finally:
    shutil.rmtree(scratch, ignore_errors=True)


def open_to_append(path: str | Path) -> TextIO:
  """Opens a text file to append UTF-8, and creates it if necessary.

  Raises:
    OSError: it cannot be opened, or is a symbolic link, a device or a pipe. In
      a folder that others can write, a link could lead to any file.
  """
  # Without O_NONBLOCK, opening a pipe would wait for a reader.
  flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK
  handle = os.open(path, flags, 0o666)
  if not stat.S_ISREG(os.fstat(handle).st_mode):
    os.close(handle)
    raise OSError(errno.EINVAL, 'it is not a regular file')
  return os.fdopen(handle, 'a', encoding='utf-8')


def sweep(folder: Path) -> None:
  """Deletes the temporary files and folders of killed writers.

  The caller must be the only writer in the folder.
  """
  for path in folder.glob('*.tmp-*'):
    if path.is_dir() and not path.is_symlink():
      shutil.rmtree(path, ignore_errors=True)
    else:
      path.unlink(missing_ok=True)


def folder_size(folder: Path) -> int:
  """Returns the bytes of all files in a folder and its subfolders."""
  return sum(f.stat().st_size for f in folder.rglob('*') if f.is_file())


def fsync(path: Path) -> None:
  """Flushes a file or a folder to the disk."""
  handle = os.open(path, os.O_RDONLY)
  try:
    os.fsync(handle)
  finally:
    os.close(handle)


def reason(error: Exception) -> str:
  """Returns the message of an exception, in one line and without the path."""
  lines = str(error).splitlines() or [type(error).__name__]
  return getattr(error, 'strerror', None) or lines[0]


def _create_beside(path: Path, create: Callable[[Path], object]) -> Path:
  """Creates a temporary file or folder beside `path`, under an unused name."""
  while True:
    scratch = path.with_name(f'.tmp-{path.name}-{secrets.token_hex(8)}')
    with contextlib.suppress(FileExistsError):
      create(scratch)
      return scratch


def _touch(path: Path) -> None:
  os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666))
