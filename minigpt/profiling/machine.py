"""What a measurement was made on and with: machine and versions."""

import os
import platform
import re
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

import minigpt
from minigpt.compiler.cpu_features import CPU_INFO


def describe() -> dict[str, Any]:
  """Returns the processor, how much of it this process has, and GPUs."""
  gpus = tf.config.list_physical_devices('GPU')
  about = map(tf.config.experimental.get_device_details, gpus)
  return {
    'processor': processor(),
    'cores': len(os.sched_getaffinity(0)),
    'gpus': [each.get('device_name', 'unknown') for each in about],
    'system': platform.platform(),
  }


def processor(cpu: Path = CPU_INFO) -> str:
  """Returns the processor's name, as far as the system tells.

  Args:
    cpu: the file in which Linux describes its processor.
  """
  text = cpu.read_text(encoding='utf-8') if cpu.exists() else ''
  found = re.search(r'^model name\s*:\s*(.+)$', text, re.MULTILINE)
  return found[1] if found else platform.processor() or platform.machine()


def versions() -> dict[str, str]:
  """Returns the versions of what computes."""
  return {
    'minigpt': minigpt.__version__,
    'tensorflow': tf.__version__,
    'numpy': np.__version__,
    'python': platform.python_version(),
  }
