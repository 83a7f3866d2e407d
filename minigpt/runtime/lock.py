"""One writer for a folder, also when writers are killed."""

import contextlib
import errno
import os
from collections.abc import Iterator
from pathlib import Path
from typing import TextIO

from minigpt.errors import InputError
from minigpt.runtime.atomic_io import open_to_append

try:
  import fcntl
except ModuleNotFoundError:  # Windows: only what writes no run works there.
  fcntl = None  # type: ignore[assignment]

_NAME = 'lock'
# How file systems say that they know no flock.
_NO_LOCKS = (errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOLCK)


class Lock:
  """A folder that this process alone may write."""

  def __init__(self, folder: Path, file: TextIO):
    self.folder = folder
    self._file = file

  def holds(self) -> bool:
    """Tells whether the folder is still the one that was locked."""
    return _is_named(self._file, self.folder / _NAME)

  def check(self) -> None:
    """Raises InputError where the folder was renamed, deleted or replaced."""
    if self._file.closed:
      raise InputError(
        f'{self.folder} is no longer locked by this process; open the run '
        'again to write there'
      )
    if not self.holds():
      raise InputError(
        f'{self.folder} was renamed or deleted while it was in use, so nothing '
        'more is written there'
      )

  def release(self) -> None:
    """Gives the folder back."""
    # By now, the name may belong to another folder and another process.
    if self.holds():
      (self.folder / _NAME).unlink(missing_ok=True)
    self._file.close()


@contextlib.contextmanager
def held(folder: str | Path, flag: str) -> Iterator[Lock]:
  """Keeps other processes out of `folder`, which is created if necessary.

  The kernel drops the lock with the process that holds it, so no stale one can
  remain. A new folder that is still empty at the end is removed.

  Args:
    folder: the folder to write.
    flag: the name of the flag that gave the folder, for errors.

  Raises:
    InputError: another process holds it, the folder cannot be written, or the
      system knows no locks.
  """
  if fcntl is None:
    raise InputError(
      f'{folder} cannot be locked: this system has no flock; use Linux, macOS '
      'or the Windows Subsystem for Linux'
    )
  folder = Path(folder)
  is_new = not folder.exists()
  lock = _acquire(folder, flag)
  try:
    yield lock
  finally:
    is_ours = lock.holds()
    lock.release()
    if is_new and is_ours:
      with contextlib.suppress(OSError):  # It is not empty.
        folder.rmdir()


def _acquire(folder: Path, flag: str) -> Lock:
  """Locks the folder, or says why that cannot be."""
  try:
    folder.mkdir(parents=True, exist_ok=True)
    return Lock(folder, _lock(folder / _NAME))
  except BlockingIOError:
    raise InputError(
      f'{folder} is in use by process {_holder(folder)}; stop that, or choose '
      f'another --{flag}'
    ) from None
  except OSError as error:
    if error.errno in _NO_LOCKS:
      raise InputError(
        f'{folder} lies on a file system without locks (flock: '
        f'{error.strerror}); mount it with locks, or choose a --{flag} on a '
        'local disk and copy it afterwards'
      ) from None
    raise InputError(
      f'{error.filename or folder} cannot be written ({error.strerror}); '
      f'choose another --{flag}'
    ) from None


def _lock(path: Path) -> TextIO:
  """Returns the file, locked, with this process's number in it."""
  while True:
    file = open_to_append(path)
    try:
      fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
      if _is_named(file, path):
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


def _is_named(file: TextIO, path: Path) -> bool:
  """Tells whether `path` leads to the open file."""
  try:
    return os.path.samestat(path.lstat(), os.fstat(file.fileno()))
  except (OSError, ValueError):  # It is closed.
    return False


def _holder(folder: Path) -> str:
  try:
    return (folder / _NAME).read_text(encoding='ascii') or 'unknown'
  except (OSError, ValueError):
    return 'unknown'
