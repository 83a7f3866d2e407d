"""What a run is made of, as plain values: model, data, training, presets.

Every field carries its help text, and the commands make one flag of each field,
so this package is the only place that knows what can be set. It imports no
TensorFlow and reads no files; `training.run_setup` turns its values into a run.
"""

from minigpt.config.data import DataConfig
from minigpt.config.model import STORED_WEIGHTS, WEIGHTS, GPTConfig
from minigpt.config.presets import (
  PRESETS,
  Preset,
  Settings,
  get_preset,
  preset_values,
  resolve,
  resolve_exclusive,
)
from minigpt.config.training import (
  COMPILE_MODES,
  COMPUTE_DTYPES,
  OPTIMIZERS,
  SCHEDULES,
  TrainConfig,
)

__all__ = [
  'COMPILE_MODES',
  'COMPUTE_DTYPES',
  'OPTIMIZERS',
  'PRESETS',
  'SCHEDULES',
  'STORED_WEIGHTS',
  'WEIGHTS',
  'DataConfig',
  'GPTConfig',
  'Preset',
  'Settings',
  'TrainConfig',
  'get_preset',
  'preset_values',
  'resolve',
  'resolve_exclusive',
]
