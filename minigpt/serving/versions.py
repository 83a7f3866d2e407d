"""Versions of a model, in the directory layout of TensorFlow Serving.

The server lists the model's directory every second and loads any child whose
name is a number, even an incomplete one. So a version is written under another
name and then renamed; it is never changed; and it is renamed before it is
deleted.
"""

from collections.abc import Callable
from pathlib import Path

import tensorflow as tf

from minigpt.errors import InputError, UsageError
from minigpt.runtime import atomic_io
from minigpt.runtime.literal_path import is_pattern

_LAST = 2**63 - 1  # The server's versions are int64.


def versions(base: Path) -> list[int]:
  """Returns the versions that a server would see, oldest first."""
  return sorted({number for number, _ in _children(base)})


def _children(base: Path) -> list[tuple[int, Path]]:
  """Returns the children that are versions, with their numbers.

  The server parses the names, so 007 is version 7.
  """
  try:
    paths = list(base.iterdir())
  except FileNotFoundError:
    return []
  except OSError as error:
    raise InputError(f'{base} cannot be listed ({error.strerror})') from None
  digits = [p for p in paths if p.name.isascii() and p.name.isdecimal()]
  numbered = [(int(path.name), path) for path in digits]
  return [(number, path) for number, path in numbered if number <= _LAST]


def check_base(base: Path) -> None:
  """Raises UsageError for a folder from which no server could load a model."""
  if is_pattern(base):
    raise UsageError(
      f'export_dir={base}: TensorFlow takes *, ?, [ and \\ in a path for a '
      'pattern and could not load what is written there; choose another'
    )


def check_keep(keep: int | None) -> None:
  """Raises UsageError if no older version would be left to go back to."""
  if keep is not None and keep < 2:
    raise UsageError(
      f'keep_versions={keep}: keep at least 2, so that there is one to go '
      'back to'
    )


def publish(
  base: Path,
  write: Callable[[Path, int], None],
  version: int | None = None,
  keep: int | None = None,
) -> Path:
  """Publishes a version as `base/<version>`, atomically.

  Args:
    base: the directory of the model.
    write: called with a directory to fill, and the version.
    version: its number; None: one more than the highest.
    keep: how many versions to keep, including this one; None: all.

  Raises:
    UsageError: `keep` is below 2, or `version` is out of a server's range.
    InputError: the version exists, or cannot be written; nothing of it is left
      behind.
  """
  check_keep(keep)
  children = dict(_children(base))
  if version is None:
    version = max(children, default=0) + 1
  if not 1 <= version <= _LAST:
    raise UsageError(f'version={version}: it must lie in [1, {_LAST}]')
  if version in children:
    raise InputError(
      f'{children[version]} exists already; choose another version'
    )
  path = base / str(version)
  with atomic_io.new_folder(path, (tf.errors.OpError,)) as scratch:
    write(scratch, version)
  if keep is not None:
    prune(base, keep)
  return path


def prune(base: Path, keep: int) -> None:
  """Deletes all but the newest `keep` versions, at least 2."""
  # Keep the previous version: a server may still be using it.
  old = set(versions(base)[: -max(keep, 2)])
  for path in (path for number, path in _children(base) if number in old):
    try:
      atomic_io.delete_folder(path)
    except OSError as error:
      raise InputError(
        f'{path} could not be deleted ({error.strerror}); the new version is '
        'published'
      ) from None
