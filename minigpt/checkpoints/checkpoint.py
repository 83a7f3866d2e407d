"""Checkpoints: written atomically, and verified when read.

A checkpoint is a directory, `step-00000250/`. It holds TensorFlow's files, with
a checksum for each tensor, and `info.json`, with a checksum of its own. The
directory is written under a temporary name, flushed to the disk, then renamed.
"""

import contextlib
import errno
import itertools
import json
import math
import os
import re
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import tensorflow as tf

from minigpt.errors import InputError
from minigpt.runtime.atomic_io import delete_folder, new_folder, reason
from minigpt.runtime.literal_path import literal_path

_NAME = re.compile(r'step-(\d{8,})')
# Errors of a missing or replaced file: the checkpoint is damaged. Other system
# errors, such as a missing permission, say nothing about the checkpoint.
_ABSENT = (errno.ENOENT, errno.ENOTDIR, errno.EISDIR)
_SYSTEM = (
  tf.errors.AbortedError,
  tf.errors.CancelledError,
  tf.errors.PermissionDeniedError,
  tf.errors.ResourceExhaustedError,
  tf.errors.UnavailableError,
  MemoryError,
)


class DamagedError(InputError):
  """Reports a checkpoint whose checksums, lengths or format are wrong."""


class Checkpoint(NamedTuple):
  """A checkpoint whose `info.json` is intact."""

  path: Path
  step: int
  info: dict[str, Any]


class Damage(NamedTuple):
  """A damaged checkpoint, and the reason."""

  path: Path
  reason: str


def save(
  folder: str | Path,
  step: int,
  state: tf.train.Checkpoint,
  info: dict[str, Any],
) -> Path:
  """Writes `folder/step-<step>` atomically, unless it exists already.

  Raises:
    InputError: the folder is missing, or the disk is full or cannot be
      written; nothing is left behind.
  """
  path = Path(folder) / f'step-{step:08d}'
  if path.exists():
    return path
  # No parents: if the run's directory was renamed, do not recreate the old one.
  with new_folder(path, (tf.errors.OpError,), parents=False) as scratch:
    state.write(str(scratch / 'state'))
    (scratch / 'info.json').write_text(_seal({'step': step, **info}))
  return path


def _seal(info: dict[str, Any]) -> str:
  return json.dumps({**info, 'crc32': zlib.crc32(json.dumps(info).encode())})


def unseal(text: str) -> dict[str, Any]:
  """Parses info.json and verifies its checksum.

  Raises:
    ValueError: the text is damaged.
  """
  try:
    info = json.loads(text)
  except RecursionError as error:
    raise ValueError(str(error)) from None
  if not isinstance(info, dict):
    raise ValueError('not an object')
  # The checksum covers the text without the checksum; json keeps key order.
  seal = info.pop('crc32', None)
  if seal != zlib.crc32(json.dumps(info).encode()):
    raise ValueError('its checksum is wrong')
  return info


def list_checkpoints(folder: str | Path) -> list[Checkpoint]:
  """Returns the checkpoints with intact info, oldest first.

  Raises:
    InputError: a system error prevents reading.
  """
  return scan(folder)[0]


def scan(folder: str | Path) -> tuple[list[Checkpoint], list[Damage]]:
  """Reads the info of all checkpoints, oldest first.

  Returns:
    The checkpoints with intact info, and those with damaged info.

  Raises:
    InputError: a system error prevents reading.
  """
  folder = Path(folder)
  try:
    names = os.listdir(folder)
  except FileNotFoundError:
    names = []
  except OSError as error:
    raise InputError(f'{folder} cannot be read ({error.strerror})') from None
  matches = filter(None, map(_NAME.fullmatch, names))
  # By number: as text, step-100000000 would come before step-99999999.
  steps = {int(match[1]): match[0] for match in matches}
  found = [_read_info(folder / steps[step], step) for step in sorted(steps)]
  return (
    [each for each in found if isinstance(each, Checkpoint)],
    [each for each in found if isinstance(each, Damage)],
  )


def _read_info(path: Path, step: int) -> Checkpoint | Damage:
  file = path / 'info.json'
  try:
    return Checkpoint(path, step, unseal(file.read_text(encoding='utf-8')))
  except ValueError as error:
    return Damage(path, f'info.json: {reason(error)}')
  except OSError as error:
    if error.errno in _ABSENT:
      return Damage(path, f'info.json: {error.strerror}')
    raise InputError(f'{file} cannot be read ({error.strerror})') from None


def restore_newest(
  folder: str | Path, state: tf.train.Checkpoint
) -> tuple[Checkpoint | None, list[Damage]]:
  """Restores the newest intact checkpoint.

  It also verifies the best checkpoint, from which models are loaded.

  Args:
    folder: the folder of checkpoints.
    state: the variables to restore; damaged checkpoints may change them too.

  Returns:
    The checkpoint, or None if there is none; and the damaged checkpoints.

  Raises:
    InputError: all checkpoints are damaged or of another model, or a system
      error prevents reading; `state` is then undefined.
  """
  whole, damages = scan(folder)
  newest = None
  while whole and newest is None:
    try:
      restore(whole[-1], state)
      newest = whole[-1]
    except DamagedError as error:
      damages.append(Damage(whole.pop().path, str(error)))
  if newest is None and damages:
    raise InputError(
      f'no checkpoint in {folder} can be read ({damages[0].reason}); restore '
      'one from a backup, or choose another --workdir'
    )
  # `restore` has just verified the newest, so stop there.
  while whole and (found := rank(whole)[0]) != newest:
    try:
      verify(found)
      break
    except DamagedError as error:
      damages.append(Damage(found.path, str(error)))
      whole.remove(found)
  return newest, damages


def set_aside(damage: Damage) -> Path:
  """Renames a damaged checkpoint, so that its step can be saved again."""
  for number in itertools.count(1):
    name = f'damaged-{damage.path.name}' + (f'-{number}' if number > 1 else '')
    path = damage.path.with_name(name)
    if not path.exists():
      return damage.path.rename(path)
  raise AssertionError('unreachable')


def rank(checkpoints: list[Checkpoint]) -> list[Checkpoint]:
  """Sorts by validation loss; those without one come last, newest first."""

  def key(found: Checkpoint) -> tuple[float, int]:
    loss = found.info.get('val_loss')
    if isinstance(loss, int | float) and math.isfinite(loss):
      return float(loss), 0
    return math.inf, -found.step

  return sorted(checkpoints, key=key)


def best(checkpoints: list[Checkpoint]) -> Checkpoint | None:
  """Returns the checkpoint of lowest validation loss, or else the newest."""
  return rank(checkpoints)[0] if checkpoints else None


def restore(
  checkpoint: Checkpoint, state: tf.train.Checkpoint, partial: bool = False
) -> None:
  """Restores every tensor of `state`, and checks that all of them match.

  Args:
    checkpoint: the checkpoint to read.
    state: the variables to restore.
    partial: allow further tensors in the checkpoint.

  Raises:
    DamagedError: the files are damaged.
    InputError: they hold another model, or a system error prevents reading.
  """
  with literal_path(checkpoint.path) as path, _read_errors(checkpoint):
    status = state.read(str(path / 'state'))
    if partial:
      status.assert_existing_objects_matched().expect_partial()
    else:
      # Also refuses further tensors: they mean that it is another model.
      status.assert_consumed()


def verify(checkpoint: Checkpoint) -> None:
  """Reads every tensor and verifies its checksum.

  Raises:
    DamagedError: the files are damaged.
    InputError: a system error prevents reading.
  """
  with literal_path(checkpoint.path) as path, _read_errors(checkpoint):
    reader = tf.train.load_checkpoint(str(path / 'state'))
    # One tensor at a time, so that memory holds only the largest.
    for name in reader.get_variable_to_shape_map():
      reader.get_tensor(name)


@contextlib.contextmanager
def _read_errors(checkpoint: Checkpoint) -> Iterator[None]:
  """Tells apart damage, a checkpoint of another model, and system errors."""
  try:
    yield
  except (AssertionError, ValueError) as error:
    raise InputError(
      f'{checkpoint.path} does not fit the model in config.json '
      f'({reason(error)})'
    ) from None
  # Damaged files make the reader raise all kinds of errors.
  except Exception as error:
    if isinstance(error, _SYSTEM) or _names_the_system(str(error)):
      raise InputError(
        f'{checkpoint.path} cannot be read ({reason(error)})'
      ) from None
    raise DamagedError(
      f'{checkpoint.path} is damaged ({reason(error)})'
    ) from None


def _names_the_system(message: str) -> bool:
  """Tells whether TensorFlow's error message reports a system error.

  TensorFlow raises the same exceptions for damage and for system errors. The
  message of a system error follows the path and a semicolon.
  """
  return any(
    f'; {os.strerror(number)}' in message
    for number in errno.errorcode
    if number not in _ABSENT
  )


def prune(folder: str | Path, keep: int) -> None:
  """Deletes all but the newest `keep` checkpoints and the best one."""
  checkpoints = list_checkpoints(folder)
  # The best checkpoint may be older than the newest `keep`.
  kept = {c.path for c in [*checkpoints[-keep:], *rank(checkpoints)[:1]]}
  for checkpoint in checkpoints:
    if checkpoint.path not in kept:
      delete_folder(checkpoint.path)
