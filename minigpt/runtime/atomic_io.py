"""Files and folders that are either whole or absent, also after a crash.

Each is written under a temporary name in the same folder, flushed to the disk,
and renamed, which a file system does in one step.
"""

import contextlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from minigpt.errors import InputError


def write_text(path: str | Path, text: str) -> None:
  """Replaces the file by one with `text` in UTF-8.

  Raises:
    InputError: it cannot be written; the previous file is untouched.
  """
  with new_file(path) as scratch:
    scratch.write_text(text, encoding='utf-8')


@contextlib.contextmanager
def new_file(path: str | Path) -> Iterator[Path]:
  """Yields a temporary path; the file written there then replaces `path`.

  Raises:
    InputError: an OSError came up within, or the file cannot be replaced; the
      previous file is untouched.
  """
  path = Path(path)
  scratch = _temporary(path)
  try:
    yield scratch
    fsync(scratch)
    scratch.replace(path)
  except OSError as error:
    raise InputError(
      f'{path} could not be written ({reason(error)}); free space, or choose '
      'another folder'
    ) from None
  finally:
    scratch.unlink(missing_ok=True)


@contextlib.contextmanager
def new_folder(
  path: str | Path, errors: tuple[type[Exception], ...] = ()
) -> Iterator[Path]:
  """Yields an empty temporary folder, which then becomes `path`.

  Args:
    path: must not exist.
    errors: exceptions, apart from OSError, that mean a failure to write.

  Raises:
    InputError: `path` exists, or cannot be written; then nothing is left
      behind.
  """
  path = Path(path)
  failures: tuple[type[Exception], ...] = (OSError, *errors)
  if path.exists():
    raise InputError(f'{path} is there already; choose another path')
  scratch = _temporary(path)
  try:
    scratch.mkdir(parents=True)
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
    shutil.rmtree(scratch, ignore_errors=True)


def delete_folder(path: Path) -> None:
  """Deletes a folder so that no part of it is ever seen under its name.

  Raises:
    OSError: it cannot be renamed.
  """
  scratch = path.with_name(f'.tmp-old-{path.name}-{os.getpid()}')
  path.rename(scratch)
  shutil.rmtree(scratch, ignore_errors=True)


def sweep(folder: Path) -> None:
  """Deletes what killed writers have left under temporary names.

  The caller must be the only writer.
  """
  for path in folder.glob('*.tmp-*'):
    if path.is_dir():
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
  return getattr(error, 'strerror', None) or str(error).splitlines()[0]


def _temporary(path: Path) -> Path:
  return path.with_name(f'.tmp-{path.name}-{os.getpid()}')
