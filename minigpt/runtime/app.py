"""The shell around every program: flags from configs, faults as one line."""

import functools
import os
import sys
import typing
from collections.abc import Callable, Sequence
from typing import Any

from absl import app, flags, logging

from minigpt.errors import InputError, UsageError

_DEFINE = {
  bool: flags.DEFINE_boolean,
  int: flags.DEFINE_integer,
  float: flags.DEFINE_float,
  str: flags.DEFINE_string,
}


def define_flags(*configs: type) -> None:
  """Defines one flag for each field of the dataclasses that has a help text.

  Flags default to None, so that `given` can tell a value that was typed from
  one that a preset or the dataclass supplies.
  """
  for config in configs:
    types = typing.get_type_hints(config)
    for name, field in config.__dataclass_fields__.items():
      if 'help' in field.metadata:
        text = (
          f'{field.metadata["help"]} (unless set by preset: {field.default})'
        )
        _DEFINE[types[name]](name, None, text)


def given(*configs: type) -> dict[str, Any]:
  """The fields of the dataclasses that were set on the command line."""
  return {
    name: flags.FLAGS[name].value
    for config in configs
    for name, field in config.__dataclass_fields__.items()
    if 'help' in field.metadata and flags.FLAGS[name].value is not None
  }


def run(main: Callable[..., int | None], takes_arguments: bool = False) -> None:
  """Parses flags, calls `main`, and exits with its code.

  Args:
    takes_arguments: call `main` with the list of what is no flag; without
      it, such an argument is refused.

  A UsageError exits with 2, an InputError with 1, Ctrl-C with 130; each
  prints one line and no traceback.
  """
  logging.set_verbosity(logging.WARNING)

  def parse(argv: Sequence[str]) -> Sequence[str]:
    return _parse_flags(argv, takes_arguments)

  def call(argv: Sequence[str]) -> None:
    arguments = [argv[1:]] if takes_arguments else []
    sys.exit(guarded(functools.partial(main, *arguments)))

  app.run(call, flags_parser=parse)


def guarded(main: Callable[[], int | None]) -> int:
  """Calls `main`; returns its exit code, having printed what went wrong."""
  try:
    return main() or 0
  except UsageError as error:
    return _fail(error, 2)
  except InputError as error:
    return _fail(error, 1)
  except KeyboardInterrupt:
    return _fail('interrupted', 130)


def _parse_flags(argv: Sequence[str], takes_arguments: bool) -> Sequence[str]:
  try:
    rest = flags.FLAGS(argv)
    if len(rest) > 1 and not takes_arguments:
      raise flags.Error(f'unexpected argument {rest[1]!r}; flags start with --')
  except flags.Error as error:
    sys.exit(_fail(f'{error}; --help lists the flags', 2))
  return rest


def _fail(message: object, code: int) -> int:
  name = os.path.basename(sys.argv[0])
  print(f'{name}: {message}', file=sys.stderr)
  return code
