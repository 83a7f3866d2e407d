"""Fields with a help text, and checks of their values."""

import dataclasses
import typing
from collections.abc import Iterable, Mapping
from typing import Any, TypeVar

from minigpt.errors import UsageError

Config = TypeVar('Config')
Strings = TypeVar('Strings', bound=Iterable[str])
# What JSON calls the types of fields.
_TYPE_NAMES = {
  bool: 'true or false',
  int: 'an integer',
  float: 'a number',
  str: 'a string',
  tuple[str, ...]: 'a list of strings',
}

# No count or seed needs more, and int32 tensors hold no more.
_LIMIT = 2**31


def option(default: Any, text: str) -> Any:
  """Returns a dataclass field that the commands make a flag of."""
  return dataclasses.field(default=default, metadata={'help': text})


def as_strings(values: Strings) -> Strings | list[str]:
  """Returns strings; a lone one is one of them, not all of its characters."""
  return [values] if isinstance(values, str) else values


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


def from_json(config: type[Config], values: Mapping[str, Any]) -> Config:
  """Makes a config of values that a JSON file holds.

  As strict as a command line: 1.0 is no integer, 1 is not true. Fields that are
  absent have their defaults, as in files of earlier versions.

  Raises:
    ValueError: a field is unknown, of another type, or out of its range.
  """
  if not isinstance(values, Mapping):
    raise ValueError(f'{values!r:.40} is no object')
  types = typing.get_type_hints(config)
  for name in values:
    if name not in types:
      raise ValueError(f'there is no setting {name!r}')
  try:
    return config(
      **{name: _value(name, v, types[name]) for name, v in values.items()}
    )
  except OverflowError as error:
    raise ValueError(str(error)) from None


def _value(name: str, value: Any, wanted: Any) -> Any:
  """Returns a value of JSON as the type of a field."""
  if wanted == tuple[str, ...]:
    fits = isinstance(value, list) and all(isinstance(v, str) for v in value)
  else:
    # The exact type, as bool is a subclass of int; JSON writes 1.0 as 1.
    fits = type(value) is wanted or (wanted, type(value)) == (float, int)
  if not fits:
    raise ValueError(f'{name}={value!r:.40}: it must be {_TYPE_NAMES[wanted]}')
  make = tuple if isinstance(value, list) else wanted
  return make(value)
