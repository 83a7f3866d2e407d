"""Files and folders that are either whole or absent, also after a crash.

Each is written under a temporary name in the same folder, flushed to the disk,
and renamed, which a file system does in one step. The temporary name is one
that the system has just created for this writer alone: numbers of processes
are not unique where containers share a volume.
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
  """Replaces the file by one with `text` in UTF-8.

  Raises:
    InputError: it cannot be written; the previous file is untouched.
  """
  with new_file(path) as scratch:
    # A page may show the path of a run, which need not be Unicode.
    scratch.write_text(text, encoding='utf-8', errors='backslashreplace')


@contextlib.contextmanager
def new_file(path: str | Path) -> Iterator[Path]:
  """Yields a temporary path; the file written there then replaces `path`.

  Raises:
    InputError: an OSError came up within, or the file cannot be replaced; the
      previous file is untouched.
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
  """Makes sure, before long work, that its file can be written; writes none.

  Raises:
    InputError: it cannot.
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
  """Yields an empty temporary folder, which then becomes `path`.

  Args:
    path: must not exist.
    errors: exceptions, apart from OSError, that mean a failure to write.
    parents: create the folder that `path` lies in.

  Raises:
    InputError: `path` exists, or cannot be written; then nothing is left
      behind.
  """
  path, scratch = Path(path), None
  failures: tuple[type[Exception], ...] = (OSError, *errors)
  if path.exists():
    raise InputError(f'{path} is there already; choose another path')
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
      f'{path} could not be written ({reason(error)}); what was there before '
      'is untouched'
    ) from None
  finally:
    if scratch:
      shutil.rmtree(scratch, ignore_errors=True)


@contextlib.contextmanager
def unnamed_files() -> Iterator[Callable[[], IO[bytes]]]:
  """Yields what opens a file without a name, to be written and read.

  It lies in the folder for temporary files, and is gone when it is closed and
  no longer mapped, however the process ends.

  Raises:
    InputError: an OSError came up within.
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
  """Deletes a folder so that no part of it is ever seen under its name.

  Raises:
    OSError: it cannot be renamed.
  """
  if path.is_symlink():  # What it leads to is not ours.
    path.unlink()
    return
  scratch = _create_beside(path, Path.mkdir)
  try:
    path.rename(scratch)  # A folder may take the name of an empty one.
  finally:
    shutil.rmtree(scratch, ignore_errors=True)


def open_to_append(path: str | Path) -> TextIO:
  """Opens a text file of ours in UTF-8, or creates it.

  Raises:
    OSError: it cannot be opened, or is a symbolic link, a device or a pipe: in
      a folder of someone else it could lead to any file.
  """
  # Without O_NONBLOCK, a pipe would be waited for.
  flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK
  handle = os.open(path, flags, 0o666)
  if not stat.S_ISREG(os.fstat(handle).st_mode):
    os.close(handle)
    raise OSError(errno.EINVAL, 'it is no regular file')
  return os.fdopen(handle, 'a', encoding='utf-8')


def sweep(folder: Path) -> None:
  """Deletes what killed writers have left under temporary names.

  The caller must be the only writer.
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
  """Returns what an exception says, in one line and without a path."""
  lines = str(error).splitlines() or [type(error).__name__]
  return getattr(error, 'strerror', None) or lines[0]


def _create_beside(path: Path, create: Callable[[Path], object]) -> Path:
  """Creates a temporary file or folder under a name that was not there."""
  while True:
    scratch = path.with_name(f'.tmp-{path.name}-{secrets.token_hex(8)}')
    with contextlib.suppress(FileExistsError):
      create(scratch)
      return scratch


def _touch(path: Path) -> None:
  os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666))
