"""Flags of `minigpt tokenizer`."""

from absl import flags

FLAGS = flags.FlagValues()
INPUT = flags.DEFINE_multi_string(
  'input',
  [],
  'a path, folder or glob of text; may be repeated',
  flag_values=FLAGS,
)
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
  'of a longer text, about so many megabytes are looked at, taken evenly',
  lower_bound=1,
  flag_values=FLAGS,
)
RAW_TEXT = flags.DEFINE_bool(
  'raw_text',
  False,
  'keep byte order marks and the line ends of Windows, instead of dropping the '
  'ones and making the others LF',
  flag_values=FLAGS,
)
SKIP_BAD_FILES = flags.DEFINE_bool(
  'skip_bad_files',
  False,
  'leave out files that cannot be read, instead of stopping',
  flag_values=FLAGS,
)
