"""The programs: each reads its flags and makes a few calls into the package.

A command is two modules: `flags/NAME.py` defines its flags and imports nothing
slow, so that `--help` answers at once; `NAME.py` does the work, and is imported
when the flags are parsed and the process is configured. What several commands
need, or a caller from Python might, is in the packages below, not here. This
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
# Those that take arguments which are no flags.
TAKE_ARGUMENTS = ('plots', 'launch')
# Those that work without TensorFlow, and so need not wait for its import.
WITHOUT_TENSORFLOW = ('tokenizer', 'prepare', 'plots', 'launch')


def module_name(command: str) -> str:
  """Returns the name of the command's module, without its package."""
  return command.replace('-', '_')


def documentation(command: str) -> str:
  """Returns the docstring of the command's module, without importing it."""
  file = importlib.resources.files(__name__) / f'{module_name(command)}.py'
  return ast.get_docstring(ast.parse(file.read_text('utf-8'))) or ''


def overview() -> str:
  """Returns a list of the commands with one line about each."""
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
