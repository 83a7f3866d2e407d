"""Flags of `minigpt prepare`."""

import os

from absl import flags

from minigpt.commands.flags import text_files

FLAGS = flags.FlagValues()
INPUT, RAW_TEXT, SKIP_BAD_FILES = text_files.define(FLAGS)
TOKENIZER = flags.DEFINE_string(
  'tokenizer',
  'gpt2',
  "'gpt2', 'char', 'word', 'bpe' (with --vocab_size), or the path of a "
  'tokenizer.json',
  flag_values=FLAGS,
)
VOCAB_SIZE = flags.DEFINE_integer(
  'vocab_size', None, 'tokens of --tokenizer=bpe', flag_values=FLAGS
)
SPECIAL = flags.DEFINE_multi_string(
  'special',
  [],
  "a special token of --tokenizer=bpe, like '<|user|>'; may be repeated",
  flag_values=FLAGS,
)
UNKNOWN_CHARACTER = flags.DEFINE_bool(
  'unknown_character',
  False,
  'with --tokenizer=char: give all other characters a token, U+FFFD',
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
