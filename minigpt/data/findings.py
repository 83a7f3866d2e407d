"""Stores the results of checks of files, valid while the files are unchanged.

Reading gigabytes to check them takes seconds at each start, and nearly always
gives the same result as before.
"""

import contextlib
import json
import os
from pathlib import Path
from typing import Any

from minigpt.errors import InputError
from minigpt.runtime.atomic_io import write_text
from minigpt.runtime.json_io import read_json


def identity(path: str | Path) -> list[int]:
  """Returns values that change when a file is written, replaced or copied.

  They are the size, the dates and the inode number. Programs can set the date
  of modification (`mtime`) freely, but not that of the last change (`ctime`).

  Raises:
    InputError: the file does not exist, or cannot be examined.
  """
  try:
    stat = os.stat(path)
  except OSError as error:
    raise InputError(f'{path}: {error.strerror}') from None
  return [stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns, stat.st_ino]


class Findings:
  """Results for the files of a folder, by name, in a JSON file there."""

  def __init__(self, path: str | Path):
    """Reads the JSON file; a missing or malformed one counts as empty."""
    self._path = Path(path)
    try:
      self._known = read_json(path)
    except InputError:
      self._known = {}

  def get(self, path: Path) -> Any:
    """Returns the result for a file, or None if the file has changed."""
    match self._known.get(path.name):
      case [found, same] if same == identity(path):
        return found
    return None

  def put(self, path: Path, found: Any, before: list[int]) -> None:
    """Stores a result.

    Args:
      path: the file.
      found: the result, a JSON value other than None.
      before: the file's identity before it was read.
    """
    self._known.pop(path.name, None)  # Keeps the oldest result first.
    self._known[path.name] = [found, before]

  def oldest(self) -> str:
    """Returns the name of the file that was checked longest ago, or ''."""
    return next(iter(self._known), '')

  def save(self) -> None:
    """Writes the JSON file, if the folder is writable."""
    with contextlib.suppress(InputError, OSError):
      self._path.parent.mkdir(exist_ok=True)
      write_text(self._path, json.dumps(self._known, indent=1) + '\n')
