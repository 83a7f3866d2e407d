"""Fields with help texts, and checks of their values."""

import dataclasses
import typing
from collections.abc import Iterable, Mapping
from typing import Any, TypeVar

from minigpt.errors import UsageError

Config = TypeVar('Config')
Strings = TypeVar('Strings', bound=Iterable[str])
# How error messages about JSON call the types of fields.
_TYPE_NAMES = {
  bool: 'true or false',
  int: 'an integer',
  float: 'a number',
  str: 'a string',
  tuple[str, ...]: 'a list of strings',
}

# Counts and seeds must fit into int32 tensors.
_LIMIT = 2**31


def option(default: Any, text: str) -> Any:
  """Returns a dataclass field for which the commands define a flag."""
  return dataclasses.field(default=default, metadata={'help': text})


def as_strings(values: Strings) -> Strings | list[str]:
  """Returns the strings; turns a single string into a list of one."""
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
  """Makes a config from the values of a JSON file.

  Types are checked as strictly as on the command line: 1.0 is not an integer, 1
  is not true. Missing fields, as in files of earlier versions, get their
  defaults.

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
  """Converts a JSON value to the type of a field, or raises ValueError."""
  if wanted == tuple[str, ...]:
    fits = isinstance(value, list) and all(isinstance(v, str) for v in value)
  else:
    # The exact type, as bool is a subclass of int. A float may be an int, as
    # JSON writers may shorten 1.0 to 1.
    fits = type(value) is wanted or (wanted, type(value)) == (float, int)
  if not fits:
    raise ValueError(f'{name}={value!r:.40}: it must be {_TYPE_NAMES[wanted]}')
  make = tuple if isinstance(value, list) else wanted
  return make(value)
