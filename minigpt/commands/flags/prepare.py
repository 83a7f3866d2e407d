"""Flags of `minigpt prepare`."""

import os

from absl import flags

FLAGS = flags.FlagValues()
INPUT = flags.DEFINE_multi_string(
  'input',
  [],
  'a path, folder or glob of text; may be repeated',
  flag_values=FLAGS,
)
TOKENIZER = flags.DEFINE_string(
  'tokenizer',
  'gpt2',
  "'gpt2', or a tokenizer.json with an end-of-text token",
  flag_values=FLAGS,
)
OUTPUT = flags.DEFINE_string(
  'output', None, 'directory for the tokens', flag_values=FLAGS
)
WORKERS = flags.DEFINE_integer(
  'workers', os.cpu_count() or 1, 'processes', lower_bound=1, flag_values=FLAGS
)
SHARD_MB = flags.DEFINE_integer(
  'shard_mb',
  64,
  'megabytes of text in one shard',
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
