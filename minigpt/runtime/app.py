"""Runs a command: parses flags, prints help, and reports errors in one line.

Each command has a `FlagValues` of its own, so that any number of commands can
be imported into one process, in any order.
"""

import dataclasses
import os
import sys
import typing
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

from absl import app, flags, logging

from minigpt.errors import InputError, UsageError
from minigpt.runtime import output

_DEFINE: dict[Any, Callable[..., Any]] = {
  bool: flags.DEFINE_boolean,
  int: flags.DEFINE_integer,
  float: flags.DEFINE_float,
  str: flags.DEFINE_string,
  tuple[str, ...]: flags.DEFINE_multi_string,
}
# Makes absl attribute the flags defined below to the calling module.
flags.disclaim_key_flags()


def define_flags(values: flags.FlagValues, *configs: type[Any]) -> None:
  """Defines a flag for each field of the dataclasses that has a help text.

  The flags default to None, so that `explicit_flags` can tell values from the
  command line from those of a preset or the dataclass.
  """
  for config in configs:
    types = typing.get_type_hints(config)
    for field in _options(config):
      text = f'{field.metadata["help"]} (unless set by preset: {field.default})'
      _DEFINE[types[field.name]](field.name, None, text, flag_values=values)


def explicit_flags(
  values: flags.FlagValues, *configs: type[Any]
) -> dict[str, Any]:
  """Returns the dataclasses' fields that were set on the command line."""
  found = {
    field.name: values[field.name].value
    for config in configs
    for field in _options(config)
  }
  return {
    name: tuple(value) if isinstance(value, list) else value
    for name, value in found.items()
    if value is not None
  }


def _options(
  config: type[Any],
) -> list[dataclasses.Field[Any]]:
  """Returns the fields that have a flag."""
  return [f for f in dataclasses.fields(config) if 'help' in f.metadata]


def run(
  values: flags.FlagValues,
  documentation: str,
  main: Callable[..., int | None],
  takes_arguments: bool = False,
) -> NoReturn:
  """Parses `sys.argv`, calls `main`, and exits with the code it returns.

  A UsageError exits with 2, an InputError with 1, Ctrl-C with 130; each
  prints one line and no traceback. `--help` prints `documentation` and every
  flag in `values`, and exits with 0.

  Args:
    values: the flags of the command.
    documentation: the head of the help text.
    main: the function of the command.
    takes_arguments: True passes positional arguments to `main`, as a list;
      False refuses them.
  """
  output.guard()
  logging.set_verbosity(logging.WARNING)

  def parse(argv: Sequence[str]) -> Sequence[str]:
    _adopt(values, documentation)
    try:
      rest = parse_flags(flags.FLAGS, argv, takes_arguments)
    except UsageError as error:
      sys.exit(_fail(error, 2))
    except InputError as error:  # The help could not be written.
      sys.exit(_fail(error, 1))
    values.mark_as_parsed()
    return rest

  def call(argv: Sequence[str]) -> NoReturn:
    arguments = [argv[1:]] if takes_arguments else []
    sys.exit(exit_code(main, *arguments))

  app.run(call, flags_parser=parse)
  raise AssertionError('unreachable: `call` exits')


def parse_flags(
  values: flags.FlagValues, argv: Sequence[str], takes_arguments: bool = False
) -> Sequence[str]:
  """Parses `argv`; returns its first element and the positional arguments.

  Raises:
    UsageError: a flag is unknown, a value is wrong, or an argument unexpected.
  """
  try:
    rest = values(argv)
  except flags.Error as error:
    raise UsageError(f'{error}; --help lists the flags') from None
  if len(rest) > 1 and not takes_arguments:
    raise UsageError(
      f'unexpected argument {rest[1]!r}; flags start with --; --help lists the '
      'flags'
    )
  return rest


def exit_code(main: Callable[..., int | None], *arguments: Any) -> int:
  """Calls `main`, prints its error in one line, and returns the exit code."""
  output.guard()
  try:
    code = main(*arguments) or 0
    sys.stdout.flush()
    return code
  except UsageError as error:
    return _fail(error, 2)
  except InputError as error:
    return _fail(error, 1)
  except KeyboardInterrupt:
    return _fail('interrupted', 130)


class _HelpFlag(flags.BooleanFlag):
  """Prints help and exits with 0, where absl's own flag exits with 1."""

  def __init__(self, name: str, short_name: str | None, text: str) -> None:
    super().__init__(
      name, False, 'show this help', short_name, allow_override=True
    )
    self._text = text

  def parse(self, argument: Any) -> None:
    if self.parser.parse(argument):
      print(self._text, flush=True)
      sys.exit(0)


def _adopt(values: flags.FlagValues, documentation: str) -> None:
  """Adds the command's flags to absl's, as flags of the main module."""
  flags.FLAGS.append_flag_values(values)
  for name in values:
    flags.FLAGS.register_key_flag_for_module(sys.argv[0], values[name])
    flags.FLAGS.register_flag_by_module(sys.argv[0], values[name])
  own = flags.FLAGS.main_module_help()
  everything = flags.FLAGS.get_help()
  short = f'{documentation}\n{own}\n\n--helpfull lists the flags of absl, too.'
  for name, short_name, text in (
    ('help', '?', short),
    ('helpshort', None, short),
    ('helpfull', None, f'{documentation}\n{everything}'),
  ):
    flags.FLAGS[name] = _HelpFlag(name, short_name, text)


def _fail(message: object, code: int) -> int:
  """Prints an error in one line, and returns `code`."""
  name = os.path.basename(sys.argv[0])
  # A path may contain a line feed.
  line = ' '.join(str(message).splitlines())
  print(f'{name}: {line}', file=sys.stderr)
  return code
