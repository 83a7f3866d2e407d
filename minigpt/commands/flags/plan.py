"""Flags of `minigpt plan`."""

from absl import flags

from minigpt.config import DataConfig, GPTConfig, TrainConfig
from minigpt.runtime import app

FLAGS = flags.FlagValues()
PRESET = flags.DEFINE_string(
  'preset', 'gpt2-124m', 'model and its recipe', flag_values=FLAGS
)
WORKERS = flags.DEFINE_integer(
  'workers', 1, 'processes that share a batch', flag_values=FLAGS
)
GBPS = flags.DEFINE_float(
  'gbps', 10.0, 'network, gigabits a second', flag_values=FLAGS
)
GFLOPS = flags.DEFINE_float(
  'gflops', 100.0, 'matmuls of a worker, GFLOP/s', flag_values=FLAGS
)
app.define_flags(FLAGS, GPTConfig, DataConfig, TrainConfig)
