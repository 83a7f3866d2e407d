"""What was found in files, remembered for as long as they are the same files.

Reading all of some gigabytes to check them takes seconds at each start, and
nearly always finds what the start before has found.
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
  """Returns what changes when a file is written, replaced or copied.

  Size, dates and number (inode). Programs set the date of the content
  (`mtime`) as they like, but not that of the last change (`ctime`).

  Raises:
    InputError: the file cannot be looked at.
  """
  try:
    stat = os.stat(path)
  except OSError as error:
    raise InputError(f'{path}: {error.strerror}') from None
  return [stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns, stat.st_ino]


class Findings:
  """Findings about files of a folder, by their names, in a JSON file there."""

  def __init__(self, path: str | Path):
    """Reads the file; one that is not there, or no such file, holds none."""
    self._path = Path(path)
    try:
      self._known = read_json(path)
    except InputError:
      self._known = {}

  def get(self, path: Path) -> Any:
    """Returns what was found in a file; None where it is not the same file."""
    match self._known.get(path.name):
      case [found, same] if same == identity(path):
        return found
    return None

  def put(self, path: Path, found: Any, before: list[int]) -> None:
    """Remembers what was found.

    Args:
      path: the file.
      found: of JSON, and not None.
      before: the file's identity before it was read.
    """
    self._known.pop(path.name, None)  # So that the oldest is the first.
    self._known[path.name] = [found, before]

  def oldest(self) -> str:
    """Returns the name of the file that was read longest ago, or ''."""
    return next(iter(self._known), '')

  def save(self) -> None:
    """Writes them, where the folder may be written."""
    with contextlib.suppress(InputError, OSError):
      self._path.parent.mkdir(exist_ok=True)
      write_text(self._path, json.dumps(self._known, indent=1) + '\n')
