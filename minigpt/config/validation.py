"""Fields with a help text, and checks of their values."""

import dataclasses
from typing import Any

from minigpt.errors import UsageError

# No count or seed needs more, and int32 tensors hold no more.
_LIMIT = 2**31


def option(default: Any, text: str) -> Any:
  """Returns a dataclass field that the commands make a flag of."""
  return dataclasses.field(default=default, metadata={'help': text})


def check(holds: bool, problem: str, remedy: str) -> None:
  """Raises UsageError unless `holds`."""
  if not holds:
    raise UsageError(f'{problem}: {remedy}')


def check_positive(config: Any, *names: str) -> None:
  """Raises UsageError unless the named fields are greater than 0."""
  for name in names:
    value = getattr(config, name)
    check(
      0 < value < _LIMIT,
      f'{name}={value}',
      f'it must be greater than 0 and below {_LIMIT}',
    )


def check_not_negative(config: Any, *names: str) -> None:
  """Raises UsageError unless the named fields are 0 or greater."""
  for name in names:
    value = getattr(config, name)
    check(
      0 <= value < _LIMIT,
      f'{name}={value}',
      f'it must be a number that is not negative and below {_LIMIT}',
    )


def check_fraction(config: Any, *names: str) -> None:
  """Raises UsageError unless the named fields lie in [0, 1)."""
  for name in names:
    value = getattr(config, name)
    check(0 <= value < 1, f'{name}={value}', 'it must lie in [0, 1)')
