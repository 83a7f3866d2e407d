"""Reads JSON objects; errors name the file, or the line."""

import json
from pathlib import Path
from typing import Any

from minigpt.errors import InputError


def read_json(path: str | Path) -> dict[str, Any]:
  """Reads a file that holds one JSON object.

  Raises:
    InputError: the file cannot be read, or does not hold a JSON object.
  """
  try:
    text = Path(path).read_text(encoding='utf-8-sig')
  except OSError as error:
    raise InputError(f'{path}: {error.strerror}') from None
  except UnicodeDecodeError as error:
    raise InputError(f'{path}: it is not JSON: {error}') from None
  return parse_json(text, str(path))


def parse_json(text: str | bytes, where: str) -> dict[str, Any]:
  """Parses one JSON object.

  Args:
    text: the object as JSON.
    where: names the text in error messages.

  Raises:
    InputError: the text is not a JSON object.
  """
  try:
    content = json.loads(text)
  except (ValueError, RecursionError) as error:
    raise InputError(f'{where}: it is not JSON: {error}') from None
  if not isinstance(content, dict):
    raise InputError(f'{where}: it is not a JSON object')
  return content
