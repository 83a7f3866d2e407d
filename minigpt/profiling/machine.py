"""Describes the machine and the versions behind a measurement."""

import os
import platform
import re
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

import minigpt
from minigpt.compiler.cpu_features import CPU_INFO


def about() -> dict[str, Any]:
  """Returns `machine` and `versions`, to be stored with measurements."""
  return {'machine': describe(), 'versions': versions()}


def describe() -> dict[str, Any]:
  """Returns the processor, the cores of this process, GPUs and the system."""
  gpus = tf.config.list_physical_devices('GPU')
  about = map(tf.config.experimental.get_device_details, gpus)
  return {
    'processor': processor(),
    'cores': _n_cores(),
    'gpus': [each.get('device_name', 'unknown') for each in about],
    'system': platform.platform(),
  }


def _n_cores() -> int | None:
  """Returns how many cores this process may use; outside Linux, all cores."""
  if hasattr(os, 'sched_getaffinity'):
    return len(os.sched_getaffinity(0))
  return os.cpu_count()


def processor(cpu: Path = CPU_INFO) -> str:
  """Returns the processor's name, and its family if that is known.

  Cloud machines leave the model number out of the name; the family still tells
  generations apart.

  Args:
    cpu: the file in which Linux describes the processor.
  """
  text = cpu.read_text(encoding='utf-8') if cpu.exists() else ''
  about = dict(re.findall(r'^([\w ]+?)\s*: (.+)$', text, re.MULTILINE))
  name = about.get('model name') or platform.processor() or platform.machine()
  family = about.get('cpu family')
  return f'{name} (family {family})' if family else name


def versions() -> dict[str, str]:
  """Returns the versions of minigpt, TensorFlow, NumPy and Python."""
  return {
    'minigpt': minigpt.__version__,
    'tensorflow': tf.__version__,
    'numpy': np.__version__,
    'python': platform.python_version(),
  }
