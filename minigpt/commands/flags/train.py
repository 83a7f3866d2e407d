"""Flags of `minigpt train`."""

from absl import flags

from minigpt.config import DataConfig, GPTConfig, TrainConfig
from minigpt.runtime import app

FLAGS = flags.FlagValues()
WORKDIR = flags.DEFINE_string(
  'workdir', None, 'folder of the run', flag_values=FLAGS
)
PRESET = flags.DEFINE_string(
  'preset',
  None,
  "starting point (default: 'shakespeare-char', with --init_from 'finetune')",
  flag_values=FLAGS,
)
RESUME = flags.DEFINE_bool(
  'resume', True, 'continue the run in --workdir', flag_values=FLAGS
)
TENSORBOARD = flags.DEFINE_bool(
  'tensorboard',
  False,
  'write events to the folder tensorboard in --workdir',
  flag_values=FLAGS,
)
PROFILE_STEPS = flags.DEFINE_string(
  'profile_steps',
  '',
  'steps to profile for TensorBoard, like 10:13',
  flag_values=FLAGS,
)
DRY_RUN = flags.DEFINE_bool(
  'dry_run', False, 'describe the run and stop', flag_values=FLAGS
)
MINUTES = flags.DEFINE_float(
  'minutes',
  0.0,
  'with --dry_run: propose a model for the text and this training time; 0: for '
  'as much time as the text is worth',
  lower_bound=0,
  flag_values=FLAGS,
)
GFLOPS = flags.DEFINE_float(
  'gflops',
  100.0,
  'with --dry_run: matmuls of this machine, GFLOP/s (`minigpt bench '
  '--what=roofline` measures them)',
  lower_bound=1e-9,
  flag_values=FLAGS,
)
app.define_flags(FLAGS, GPTConfig, DataConfig, TrainConfig)
