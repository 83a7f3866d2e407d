"""Checkpoints that are either whole or not there.

One directory a checkpoint, `step-00000250/`: TensorFlow's own files, whose
every tensor carries a checksum, and `info.json`, which carries one too. It is
written under another name, flushed to the disk, then renamed.
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
# What a file that is missing, or something else in its place, is reported by;
# any other error of the system says nothing about a checkpoint.
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
  """A checkpoint whose checksums, lengths or format are wrong."""


class Checkpoint(NamedTuple):
  """A checkpoint whose info could be read."""

  path: Path
  step: int
  info: dict[str, Any]


class Damage(NamedTuple):
  """A damaged checkpoint, and what is wrong with it."""

  path: Path
  reason: str


def save(
  folder: str | Path,
  step: int,
  state: tf.train.Checkpoint,
  info: dict[str, Any],
) -> Path:
  """Writes `folder/step-<step>` in one stroke; a complete one stays as it is.

  Raises:
    InputError: the folder is not there, the disk is full or cannot be written;
      nothing is left behind.
  """
  path = Path(folder) / f'step-{step:08d}'
  if path.exists():
    return path
  # Without parents: a run whose directory was renamed must not create it again.
  with new_folder(path, (tf.errors.OpError,), parents=False) as scratch:
    state.write(str(scratch / 'state'))
    (scratch / 'info.json').write_text(_seal({'step': step, **info}))
  return path


def _seal(info: dict[str, Any]) -> str:
  return json.dumps({**info, 'crc32': zlib.crc32(json.dumps(info).encode())})


def unseal(text: str) -> dict[str, Any]:
  """Reads info.json.

  Raises:
    ValueError: it is not as it was written.
  """
  try:
    info = json.loads(text)
  except RecursionError as error:
    raise ValueError(str(error)) from None
  if not isinstance(info, dict):
    raise ValueError('not an object')
  # The checksum is of the text without it; JSON keeps the order of keys.
  seal = info.pop('crc32', None)
  if seal != zlib.crc32(json.dumps(info).encode()):
    raise ValueError('its checksum is wrong')
  return info


def list_checkpoints(folder: str | Path) -> list[Checkpoint]:
  """Returns the checkpoints whose info is whole, oldest first.

  Raises:
    InputError: the system does not let them be read.
  """
  return scan(folder)[0]


def scan(folder: str | Path) -> tuple[list[Checkpoint], list[Damage]]:
  """Reads the info of all checkpoints, oldest first.

  Returns:
    The checkpoints, and those whose info is damaged.

  Raises:
    InputError: the system does not let them be read.
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
  """Reads the newest checkpoint that is whole.

  The best one, which models are read from, is looked through as well.

  Args:
    folder: where the checkpoints lie.
    state: what is restored. It may have been changed when this returns None.

  Returns:
    The checkpoint, None where there is not one, and those that are damaged.

  Raises:
    InputError: there are checkpoints, but none is whole, or the system does
      not let them be read, or they are another model's; `state` is spoilt.
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
      f'no checkpoint in {folder} can be read ({damages[0].reason}); bring '
      'one back from a copy, or choose another --workdir'
    )
  # The newest has just been read whole, so nothing is verified twice.
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
  """Sorts by validation loss, the lowest first; then the newest without one."""

  def key(found: Checkpoint) -> tuple[float, int]:
    loss = found.info.get('val_loss')
    if isinstance(loss, int | float) and math.isfinite(loss):
      return float(loss), 0
    return math.inf, -found.step

  return sorted(checkpoints, key=key)


def best(checkpoints: list[Checkpoint]) -> Checkpoint | None:
  """Returns the one of lowest validation loss, or the newest without one."""
  return rank(checkpoints)[0] if checkpoints else None


def restore(
  checkpoint: Checkpoint, state: tf.train.Checkpoint, partial: bool = False
) -> None:
  """Reads every tensor of `state` back and makes sure that all matched.

  Args:
    checkpoint: the one to read.
    state: what is restored.
    partial: the checkpoint may hold more than `state` asks for.

  Raises:
    DamagedError: the files are damaged.
    InputError: they hold another model, or the system does not let them be
      read.
  """
  with literal_path(checkpoint.path) as path, _read_errors(checkpoint):
    status = state.read(str(path / 'state'))
    if partial:
      status.assert_existing_objects_matched().expect_partial()
    else:
      # Both ways: a tensor too many means another model, too.
      status.assert_consumed()


def verify(checkpoint: Checkpoint) -> None:
  """Reads every tensor, one after another, and its checksum.

  Raises:
    DamagedError: the files are damaged.
    InputError: the system does not let them be read.
  """
  with literal_path(checkpoint.path) as path, _read_errors(checkpoint):
    reader = tf.train.load_checkpoint(str(path / 'state'))
    # One tensor at a time: memory for the largest is enough.
    for name in reader.get_variable_to_shape_map():
      reader.get_tensor(name)


@contextlib.contextmanager
def _read_errors(checkpoint: Checkpoint) -> Iterator[None]:
  """Tells damage from another model and from errors of the system."""
  try:
    yield
  except (AssertionError, ValueError) as error:
    raise InputError(
      f'{checkpoint.path} does not fit the model in config.json '
      f'({reason(error)})'
    ) from None
  # Damage makes the reader raise errors of all kinds.
  except Exception as error:
    if isinstance(error, _SYSTEM) or _names_the_system(str(error)):
      raise InputError(
        f'{checkpoint.path} cannot be read ({reason(error)})'
      ) from None
    raise DamagedError(
      f'{checkpoint.path} is damaged ({reason(error)})'
    ) from None


def _names_the_system(message: str) -> bool:
  """Tells whether an error of TensorFlow passes on one of the system.

  Its reader wraps both in the same exceptions; the system's own words follow
  the path and a semicolon.
  """
  return any(
    f'; {os.strerror(number)}' in message
    for number in errno.errorcode
    if number not in _ABSENT
  )


def prune(folder: str | Path, keep: int) -> None:
  """Deletes all but the newest `keep` checkpoints and the best one."""
  checkpoints = list_checkpoints(folder)
  # The best may be older than all that are kept for their age.
  kept = {c.path for c in [*checkpoints[-keep:], *rank(checkpoints)[:1]]}
  for checkpoint in checkpoints:
    if checkpoint.path not in kept:
      delete_folder(checkpoint.path)
