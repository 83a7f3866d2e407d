"""A lock for a folder, which the kernel releases when its owner dies."""

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
except ModuleNotFoundError:  # On Windows, runs can be read but not written.
  fcntl = None  # type: ignore[assignment]

_NAME = 'lock'
# Errors of file systems that do not support flock.
_NO_LOCKS = (errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOLCK)


class Lock:
  """The lock of a folder; only its holder may write there."""

  def __init__(self, folder: Path, file: TextIO):
    self.folder = folder
    self._file = file

  def holds(self) -> bool:
    """Tells whether the path still leads to the folder that was locked."""
    return _is_named(self._file, self.folder / _NAME)

  def check(self) -> None:
    """Raises InputError if the folder was renamed, deleted or replaced."""
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
    """Releases the lock."""
    # Another process may have put another folder at this path meanwhile.
    if self.holds():
      (self.folder / _NAME).unlink(missing_ok=True)
    self._file.close()


@contextlib.contextmanager
def held(folder: str | Path, flag: str) -> Iterator[Lock]:
  """Locks `folder`, which is created if necessary, for this process.

  The kernel releases the lock when the process ends, so it is never stale. A
  new folder that is still empty at the end is removed.

  Args:
    folder: the folder to lock.
    flag: the name of the flag that gave the folder, for error messages.

  Raises:
    InputError: another process holds the lock, the folder cannot be written,
      or the system does not support locks.
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
      with contextlib.suppress(OSError):  # The folder is not empty.
        folder.rmdir()


def _acquire(folder: Path, flag: str) -> Lock:
  """Locks the folder, or raises an InputError with the reason."""
  try:
    folder.mkdir(parents=True, exist_ok=True)
    return Lock(folder, _lock(folder / _NAME))
  except BlockingIOError:
    raise InputError(
      f'{folder} is in use by process {_holder(folder)}; stop it, or choose '
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
  """Locks the file and writes this process's id to it."""
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
    # The previous holder deleted the file between `open` and `flock`, so this
    # lock is on a file without a name: try again.
    file.close()


def _is_named(file: TextIO, path: Path) -> bool:
  """Tells whether `path` is the path of the open file."""
  try:
    return os.path.samestat(path.lstat(), os.fstat(file.fileno()))
  except (OSError, ValueError):  # The path is missing, or the file closed.
    return False


def _holder(folder: Path) -> str:
  try:
    return (folder / _NAME).read_text(encoding='ascii') or 'unknown'
  except (OSError, ValueError):
    return 'unknown'
