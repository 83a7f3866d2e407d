"""Files that are either whole or not there, also after a crash."""

import json
import os
import shutil
from pathlib import Path
from typing import Any

from minigpt.errors import InputError


def write_text(path: Path, text: str) -> None:
  """Replaces the file in one stroke.

  Raises:
    InputError: it cannot be written; what was there before is untouched.
  """
  scratch = path.with_name(f'.tmp-{path.name}-{os.getpid()}')
  try:
    scratch.write_text(text, encoding='utf-8')
    fsync(scratch)
    scratch.replace(path)
  except OSError as error:
    scratch.unlink(missing_ok=True)
    raise InputError(
      f'{path} could not be written ({reason(error)}); free space, or choose '
      'another folder'
    ) from None


def sweep(folder: Path) -> None:
  """Deletes what writers that were killed have left half-written.

  The caller must be the only writer.
  """
  for path in folder.glob('*.tmp-*'):
    if path.is_dir():
      shutil.rmtree(path, ignore_errors=True)
    else:
      path.unlink(missing_ok=True)


def fsync(path: Path) -> None:
  handle = os.open(path, os.O_RDONLY)
  try:
    os.fsync(handle)
  finally:
    os.close(handle)


def reason(error: Exception) -> str:
  return getattr(error, 'strerror', None) or str(error).splitlines()[0]


def read_json(file: Path) -> dict[str, Any]:
  """Reads a JSON object, or raises InputError."""
  try:
    content = json.loads(file.read_text(encoding='utf-8'))
  except OSError as e:
    raise InputError(f'{file}: {e.strerror}') from None
  except (ValueError, RecursionError) as e:
    raise InputError(f'{file}: it is not JSON: {e}') from None
  if not isinstance(content, dict):
    raise InputError(f'{file}: it is not a JSON object')
  return content
