"""One writer for a folder, also when writers are killed."""

import contextlib
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path
from typing import TextIO

from minigpt.errors import InputError

_NAME = 'lock'


@contextlib.contextmanager
def held(folder: str | Path, flag: str) -> Iterator[None]:
  """Keeps other processes out of `folder`, which is created if necessary.

  The kernel drops the lock with the process that holds it, so no stale one can
  remain. A new folder that is still empty at the end is removed.

  Args:
    folder: the folder to write.
    flag: the name of the flag that gave the folder, for errors.

  Raises:
    InputError: another process holds it, or the folder cannot be written.
  """
  folder = Path(folder)
  is_new = not folder.exists()
  try:
    folder.mkdir(parents=True, exist_ok=True)
    file = _lock(folder / _NAME)
  except BlockingIOError:
    raise InputError(
      f'{folder} is in use by process {_holder(folder)}; stop that, or choose '
      f'another --{flag}'
    ) from None
  except OSError as error:
    raise InputError(
      f'{folder} cannot be written ({error.strerror}); choose another --{flag}'
    ) from None
  try:
    yield
  finally:
    (folder / _NAME).unlink(missing_ok=True)
    file.close()
    if is_new:
      with contextlib.suppress(OSError):  # It is not empty.
        folder.rmdir()


def _lock(path: Path) -> TextIO:
  """Returns the file, locked, with this process's number in it."""
  while True:
    file = open(path, 'a+', encoding='ascii')  # noqa: SIM115
    try:
      fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
      if path.exists() and os.path.samestat(
        path.stat(), os.fstat(file.fileno())
      ):
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
        return file
    except OSError:
      file.close()
      raise
    # Its holder left and deleted it between `open` and `flock`: what is locked
    # now is no longer the file of this name.
    file.close()


def _holder(folder: Path) -> str:
  try:
    return (folder / _NAME).read_text(encoding='ascii') or 'unknown'
  except (OSError, ValueError):
    return 'unknown'
