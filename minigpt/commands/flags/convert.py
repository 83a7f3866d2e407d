"""Flags of `minigpt convert`."""

from absl import flags

FLAGS = flags.FlagValues()
FROM = flags.DEFINE_string('from', None, 'directory to read', flag_values=FLAGS)
TO = flags.DEFINE_string(
  'to', None, 'directory to write; a new one', flag_values=FLAGS
)
TOKENIZER = flags.DEFINE_string(
  'tokenizer',
  None,
  'tokenizer.json, for a model whose own cannot be read',
  flag_values=FLAGS,
)
