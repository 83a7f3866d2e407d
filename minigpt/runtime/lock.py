"""One writer for a directory, whatever happens to the writers."""

import contextlib
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path
from typing import TextIO

from minigpt.errors import InputError

_NAME = 'lock'


@contextlib.contextmanager
def held(folder: Path, flag: str) -> Iterator[None]:
  """Keeps other processes out of `folder`, which is made if need be.

  The kernel drops the lock with the process that holds it, so there are no
  stale ones. Where nothing else was put into a new folder, it goes again.

  Args:
    flag: the name of the flag that gave the folder.

  Raises:
    InputError: another process holds it, or the folder cannot be written.
  """
  is_new = not folder.exists()
  try:
    folder.mkdir(parents=True, exist_ok=True)
    file = _locked(folder / _NAME)
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


def _locked(path: Path) -> TextIO:
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
    file.close()  # Its holder has just left and taken the name with it.


def _holder(folder: Path) -> str:
  try:
    return (folder / _NAME).read_text(encoding='ascii') or 'unknown'
  except (OSError, ValueError):
    return 'unknown'
