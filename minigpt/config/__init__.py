"""The settings of a run as plain values: model, data, training, presets.

Each field has a help text, and the commands define a flag for each field, so
all settings are listed here and nowhere else. This package imports no
TensorFlow and reads no files; `training.run_setup` opens a run with its values.
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
  SERVED_DTYPES,
  TrainConfig,
)

__all__ = [
  'COMPILE_MODES',
  'COMPUTE_DTYPES',
  'OPTIMIZERS',
  'PRESETS',
  'SCHEDULES',
  'SERVED_DTYPES',
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
