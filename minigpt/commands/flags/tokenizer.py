"""Flags of `minigpt tokenizer`."""

from absl import flags

from minigpt.commands.flags import text_files

FLAGS = flags.FlagValues()
INPUT, RAW_TEXT, SKIP_BAD_FILES = text_files.define(FLAGS)
VOCAB_SIZE = flags.DEFINE_integer(
  'vocab_size',
  None,
  'tokens in all: 256 bytes, the merges, <|endoftext|> and special tokens',
  flag_values=FLAGS,
)
SPECIAL = flags.DEFINE_multi_string(
  'special',
  [],
  "a special token, like '<|user|>', which is one token wherever text spells "
  'it; may be repeated',
  flag_values=FLAGS,
)
OUTPUT = flags.DEFINE_string(
  'output', None, 'file for the vocabulary, a .json', flag_values=FLAGS
)
SAMPLE_MB = flags.DEFINE_integer(
  'sample_mb',
  100,
  'megabytes of text to learn from; a longer text is sampled evenly',
  lower_bound=1,
  flag_values=FLAGS,
)
