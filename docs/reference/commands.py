"""Writes commands.md: each command with its example and its flags.

python docs/reference/commands.py
"""

import importlib
import textwrap
from collections.abc import Iterator
from pathlib import Path

from absl import flags

from minigpt import commands

INTRODUCTION = """# Commands and flags

Written by a script from what the commands are made of, so it says what
`minigpt COMMAND --help` says. A default in brackets counts unless the preset
sets another.
"""


def flags_of(command: str) -> Iterator[flags.Flag]:
  module = commands.module_name(command)
  values = importlib.import_module(f'minigpt.commands.flags.{module}').FLAGS
  yield from (values[name] for name in sorted(values))


def row(flag: flags.Flag) -> str:
  """Returns a line of the table; a flag without a default shows none."""
  text = ' '.join(flag.help.split()).replace('|', '\\|').replace('<', '&lt;')
  default = '' if flag.default in (None, [], '') else f'`{flag.default}`'
  if ' (unless set by preset: ' in text:
    text, _, rest = text.rpartition(' (unless set by preset: ')
    default = f'(`{rest[:-1]}`)' if rest != ')' else ''
  return f'| `--{flag.name}` | {default} | {text} |'


def section(command: str) -> str:
  """Returns what the page says of a command: its docstring and its flags."""
  paragraphs = commands.documentation(command).split('\n\n')
  shown = [
    f'```text\n{textwrap.dedent(text)}\n```' if text[0] == ' ' else text
    for text in paragraphs
  ]
  rows = '\n'.join(map(row, flags_of(command)))
  table = f'| flag | default | |\n|---|---|---|\n{rows}\n'
  return '\n\n'.join([f'## {command}', *shown, table])


def page() -> str:
  return '\n'.join([INTRODUCTION, *map(section, commands.COMMANDS)])


if __name__ == '__main__':
  path = Path(__file__).with_suffix('.md')
  path.write_text(page(), encoding='utf-8')
  print(path)
