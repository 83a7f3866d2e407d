"""Runs a command: `python -m minigpt COMMAND`, or `minigpt COMMAND`.

This module needs only the standard library, so that in a Python without the
dependencies it can print one line that says how to install them.
"""

import importlib
import sys

from minigpt import commands
from minigpt.errors import InputError, unknown
from minigpt.runtime import output

# The dependencies in setup.cfg, by the names under which they are imported.
_REQUIRED = (
  'absl',
  'importlib_resources',
  'numpy',
  'tensorflow',
  'tensorflow_datasets',
  'tiktoken',
  'tqdm',
)


def main() -> None:
  """Runs the command that the first argument names."""
  output.guard()
  name = sys.argv[1].replace('_', '-') if sys.argv[1:] else '--help'
  if name in ('--help', '-h'):
    _print(commands.overview())
  elif name not in commands.COMMANDS:
    error = unknown('command', name, commands.COMMANDS)
    sys.exit(_fail(f'minigpt: {error}\n\n{commands.overview()}', 2))
  else:
    sys.argv[:2] = [f'minigpt {name}']
    run(name)


def run(name: str) -> None:
  """Runs one of `commands.COMMANDS` with the flags in `sys.argv`, and exits."""
  module = commands.module_name(name)
  try:
    from minigpt.runtime import app

    flags = importlib.import_module(f'minigpt.commands.flags.{module}')
    app.run(
      flags.FLAGS,
      commands.documentation(name),
      lambda *arguments: _start(name, *arguments),
      takes_arguments=name in commands.TAKE_ARGUMENTS,
    )
  except ModuleNotFoundError as error:
    if error.name not in _REQUIRED:
      raise
    sys.exit(
      _fail(
        f'minigpt: this Python has no {error.name}; install what minigpt needs '
        'with `pip install .` in its folder, or run `make demo` there and use '
        '.venv/bin/python',
        1,
      )
    )


def _start(name: str, *arguments: list[str]) -> int | None:
  """Configures the process, then imports the command and calls it."""
  if name not in commands.WITHOUT_TENSORFLOW:
    from minigpt.runtime import startup

    startup.configure()
  module = f'minigpt.commands.{commands.module_name(name)}'
  return importlib.import_module(module).main(*arguments)


def _print(text: str) -> None:
  try:
    print(text, flush=True)
  except InputError as error:
    sys.exit(_fail(f'minigpt: {error}', 1))


def _fail(message: str, code: int) -> int:
  print(message, file=sys.stderr)
  return code


if __name__ == '__main__':
  main()
