"""Flags of `minigpt plots`."""

from absl import flags

FLAGS = flags.FlagValues()
OUTPUT = flags.DEFINE_string(
  'output',
  'losses',
  '.png, .svg or .pdf file; without a suffix: PNG and SVG',
  flag_values=FLAGS,
)
