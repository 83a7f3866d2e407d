"""Flags of `minigpt inspect`."""

from absl import flags

FLAGS = flags.FlagValues()
WORKDIR = flags.DEFINE_string(
  'workdir', None, 'run, or GPT-2 in a published format', flag_values=FLAGS
)
PROMPT = flags.DEFINE_string('prompt', None, 'text to show', flag_values=FLAGS)
OUTPUT = flags.DEFINE_string(
  'output',
  'report.html',
  'an .html page, or a .png, .svg or .pdf picture',
  flag_values=FLAGS,
)
LAYER = flags.DEFINE_integer(
  'layer', None, 'only this layer, from 0', flag_values=FLAGS
)
HEAD = flags.DEFINE_integer(
  'head', None, 'only this head, from 0', flag_values=FLAGS
)
