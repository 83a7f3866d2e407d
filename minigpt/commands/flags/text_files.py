"""Flags shared by the commands that read text files."""

from typing import NamedTuple

from absl import flags


class TextFlags(NamedTuple):
  """The flags of text files."""

  input: flags.FlagHolder[list[str]]
  raw_text: flags.FlagHolder[bool]
  skip_bad_files: flags.FlagHolder[bool]


def define(values: flags.FlagValues) -> TextFlags:
  """Defines the flags for a command."""
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
      'keep byte order marks and CRLF line ends, which are otherwise dropped '
      'and turned into LF',
      flag_values=values,
    ),
    flags.DEFINE_bool(
      'skip_bad_files',
      False,
      'leave out files that cannot be read, instead of stopping',
      flag_values=values,
    ),
  )
