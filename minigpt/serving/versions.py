"""Versions of a model, as TensorFlow Serving finds them.

The server lists the model's directory every second and takes any child whose
name is a number, whole or not. So a version is written under another name and
renamed, never changed, and deleted under another name again.
"""

from collections.abc import Callable
from pathlib import Path

import tensorflow as tf

from minigpt.errors import InputError, UsageError
from minigpt.runtime import atomic_io
from minigpt.runtime.literal_path import is_pattern


def versions(base: Path) -> list[int]:
  """Returns the versions that a server would see, the oldest first."""
  try:
    names = [path.name for path in base.iterdir()]
  except FileNotFoundError:
    return []
  except OSError as error:
    raise InputError(f'{base} cannot be listed ({error.strerror})') from None
  return sorted(int(n) for n in names if n.isascii() and n.isdecimal())


def check_base(base: Path) -> None:
  """Raises UsageError for a folder from which no server could read a model."""
  if is_pattern(base):
    raise UsageError(
      f'export_dir={base}: TensorFlow takes *, ?, [ and \\ in a path for a '
      'pattern and could not load what is written there; choose another'
    )


def check_keep(keep: int | None) -> None:
  """Raises UsageError where a server could be left without a way back."""
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
  """Makes `base/<version>` appear in one stroke.

  Args:
    write: called with a directory to fill, and the version.
    version: None: one more than the highest there is.
    keep: how many versions, this one among them, survive; None: all.

  Raises:
    UsageError: `keep` is below 2, or `version` below 1.
    InputError: the version exists, or cannot be written; then nothing of it
      is left behind.
  """
  check_keep(keep)
  if version is None:
    version = max(versions(base), default=0) + 1
  if version < 1:
    raise UsageError(f'version={version}: versions start at 1')
  path = base / str(version)
  with atomic_io.new_folder(path, (tf.errors.OpError,)) as scratch:
    write(scratch, version)
  if keep is not None:
    prune(base, keep)
  return path


def prune(base: Path, keep: int) -> None:
  """Deletes all but the newest `keep` versions, at least 2."""
  # The version before stays: a server may still be answering with it.
  for version in versions(base)[: -max(keep, 2)]:
    path = base / str(version)
    try:
      atomic_io.delete_folder(path)
    except OSError as error:
      raise InputError(
        f'{path} could not be deleted ({error.strerror}); the new version is '
        'published'
      ) from None
