"""Flags of all commands that read files of text themselves."""

from typing import NamedTuple

from absl import flags


class TextFlags(NamedTuple):
  """What is read, and how."""

  input: flags.FlagHolder[list[str]]
  raw_text: flags.FlagHolder[bool]
  skip_bad_files: flags.FlagHolder[bool]


def define(values: flags.FlagValues) -> TextFlags:
  """Defines them for one command."""
  return TextFlags(
    flags.DEFINE_multi_string(
      'input',
      [],
      'a path, folder or glob of text; may be repeated',
      flag_values=values,
    ),
    flags.DEFINE_bool(
      'raw_text',
      False,
      'keep byte order marks and the line ends of Windows, instead of dropping '
      'the ones and making the others LF',
      flag_values=values,
    ),
    flags.DEFINE_bool(
      'skip_bad_files',
      False,
      'leave out files that cannot be read, instead of stopping',
      flag_values=values,
    ),
  )
