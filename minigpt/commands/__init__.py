"""The commands: each reads its flags and makes a few calls into the package.

A command has two modules. `flags/NAME.py` defines its flags and imports nothing
slow, so that `--help` answers at once. `NAME.py` does the work; it is imported
after the flags are parsed and the process is configured. Code that several
commands share, or that is useful from Python, lives in other packages. This
module imports only the standard library.
"""

import ast
import importlib.resources

COMMANDS = (
  'train',
  'generate',
  'evaluate',
  'export',
  'serve',
  'serve-check',
  'data',
  'tokenizer',
  'prepare',
  'convert',
  'inspect',
  'plots',
  'plan',
  'launch',
  'bench',
)
# Commands with positional arguments.
TAKE_ARGUMENTS = ('plots', 'launch')
# Commands that need no TensorFlow, and start without importing it.
WITHOUT_TENSORFLOW = ('tokenizer', 'prepare', 'plots', 'launch')


def module_name(command: str) -> str:
  """Returns the name of the command's module, without its package."""
  return command.replace('-', '_')


def documentation(command: str) -> str:
  """Returns the docstring of the command's module, without importing it."""
  file = importlib.resources.files(__name__) / f'{module_name(command)}.py'
  return ast.get_docstring(ast.parse(file.read_text('utf-8'))) or ''


def overview() -> str:
  """Returns the usage, and a list of the commands with a line about each."""
  lines = [
    f'  {name:<12} {documentation(name).splitlines()[0]}' for name in COMMANDS
  ]
  return '\n'.join(
    [
      'usage: minigpt COMMAND [--flag=value ...]',
      '',
      *lines,
      '',
      'minigpt COMMAND --help shows an example and all flags.',
    ]
  )
