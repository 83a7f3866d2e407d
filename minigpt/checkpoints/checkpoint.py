"""Checkpoints that are either whole or not there.

One directory a checkpoint, `step-00000250/`: TensorFlow's own files, whose
every tensor carries a checksum, and `info.json`, which carries one too. It is
written under another name, flushed to the disk, then renamed.
"""

import json
import re
import shutil
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import tensorflow as tf

from minigpt.errors import InputError
from minigpt.runtime.atomic_io import delete_folder, new_folder, reason

_NAME = re.compile(r'step-(\d{8})')


class Checkpoint(NamedTuple):
  """A checkpoint whose info could be read."""

  path: Path
  step: int
  info: dict[str, Any]


class Damage(NamedTuple):
  """A checkpoint that cannot be used, and why."""

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
    InputError: the disk is full or cannot be written; nothing is left behind.
  """
  path = Path(folder) / f'step-{step:08d}'
  if path.exists():
    return path
  with new_folder(path, (tf.errors.OpError,)) as scratch:
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
  info = json.loads(text)
  if not isinstance(info, dict):
    raise ValueError('not an object')
  seal = info.pop('crc32', None)
  if seal != zlib.crc32(json.dumps(info).encode()):
    raise ValueError('its checksum is wrong')
  return info


def list_checkpoints(folder: str | Path) -> list[Checkpoint]:
  """Returns the checkpoints whose info can be read, oldest first."""
  return [c for c in _scan(Path(folder)) if isinstance(c, Checkpoint)]


def _scan(folder: Path) -> Iterator[Checkpoint | Damage]:
  for path in sorted(folder.glob('step-*')):
    match = _NAME.fullmatch(path.name)
    if match:
      try:
        info = unseal((path / 'info.json').read_text(encoding='utf-8'))
        yield Checkpoint(path, int(match[1]), info)
      except (OSError, ValueError) as error:
        yield Damage(path, f'info.json: {reason(error)}')


def restore_newest(
  folder: str | Path, state: tf.train.Checkpoint
) -> tuple[Checkpoint | None, list[Damage]]:
  """Reads the newest checkpoint that is whole.

  Args:
    folder: where the checkpoints lie.
    state: what is restored. It may have been changed when this returns None.

  Returns:
    The checkpoint, None where there is not one, and the damaged newer ones.

  Raises:
    InputError: there are checkpoints, but none is whole; `state` is spoilt.
  """
  damages = []
  for found in reversed(list(_scan(Path(folder)))):
    if isinstance(found, Damage):
      damages.append(found)
      continue
    try:
      restore(found, state)
      return found, damages
    except InputError as error:
      damages.append(Damage(found.path, str(error)))
  if damages:
    raise InputError(
      f'no checkpoint in {folder} can be read ({damages[0].reason}); bring '
      'one back from a copy, or choose another --workdir'
    )
  return None, []


def set_aside(damage: Damage) -> Path:
  """Renames a damaged checkpoint, so that its step can be saved again."""
  path = damage.path.with_name(f'damaged-{damage.path.name}')
  shutil.rmtree(path, ignore_errors=True)
  return damage.path.rename(path)


def best(checkpoints: list[Checkpoint]) -> Checkpoint | None:
  """Returns the one of lowest validation loss, or the newest without one."""
  scored = [c for c in checkpoints if c.info.get('val_loss') is not None]
  if scored:
    return min(scored, key=lambda c: c.info['val_loss'])
  return checkpoints[-1] if checkpoints else None


def restore(
  checkpoint: Checkpoint, state: tf.train.Checkpoint, partial: bool = False
) -> None:
  """Reads every tensor of `state` back and makes sure that all matched.

  Args:
    checkpoint: the one to read.
    state: what is restored.
    partial: the checkpoint may hold more than `state` asks for.

  Raises:
    InputError: the files are damaged, or hold another model.
  """
  try:
    status = state.read(str(checkpoint.path / 'state'))
    if partial:
      status.assert_existing_objects_matched().expect_partial()
    else:
      status.assert_consumed()
  except (AssertionError, ValueError) as error:
    raise InputError(
      f'{checkpoint.path} does not fit the model in config.json '
      f'({reason(error)})'
    ) from None
  # Damage makes the reader raise errors of all kinds.
  except Exception as error:
    raise InputError(
      f'{checkpoint.path} is damaged ({reason(error)}); continue its run '
      'with train.py, which falls back on the one before'
    ) from None


def prune(folder: str | Path, keep: int) -> None:
  """Deletes all but the newest `keep` checkpoints and the best one."""
  checkpoints = list_checkpoints(folder)
  kept = {c.path for c in [*checkpoints[-keep:], best(checkpoints)] if c}
  for checkpoint in checkpoints:
    if checkpoint.path not in kept:
      delete_folder(checkpoint.path)
