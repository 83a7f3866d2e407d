"""Flags of `minigpt data`."""

from absl import flags

from minigpt.config import DataConfig
from minigpt.runtime import app

FLAGS = flags.FlagValues()
CONTEXT_LENGTH = flags.DEFINE_integer(
  'context_length', 64, 'tokens of a window', lower_bound=1, flag_values=FLAGS
)
VOCAB_SIZE = flags.DEFINE_integer(
  'vocab_size', None, 'tokens of --tokenizer=bpe', flag_values=FLAGS
)
OUTPUT = flags.DEFINE_string(
  'output',
  None,
  'picture of the lengths of lines: .png, .svg or .pdf',
  flag_values=FLAGS,
)
app.define_flags(FLAGS, DataConfig)
