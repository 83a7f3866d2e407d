"""Flags of `minigpt launch`."""

from absl import flags

FLAGS = flags.FlagValues()
WORKERS = flags.DEFINE_integer(
  'workers', None, 'processes to start', flag_values=FLAGS
)
