"""Data types that this machine's processor supports in hardware."""

import functools
from pathlib import Path
from typing import NamedTuple

import tensorflow as tf

CPU_INFO = Path('/proc/cpuinfo')

_BFLOAT16 = {'amx_bf16', 'avx512_bf16'}
_INT8 = {'amx_int8', 'avx512_vnni', 'avx_vnni'}


class Features(NamedTuple):
  """Data types that the processor multiplies without converting them first."""

  bfloat16: bool = False  # AVX512-BF16 or AMX-BF16
  int8: bool = False  # VNNI or AMX-INT8


def read(cpu: Path = CPU_INFO) -> Features:
  """Returns the features of the CPU, or none if a GPU does the work.

  Args:
    cpu: the file in which Linux describes the processor; systems without such
      a file count as having no features.
  """
  if tf.config.list_physical_devices('GPU') or not cpu.exists():
    return Features()
  flags = set(cpu.read_text(encoding='utf-8').split())
  return Features(bool(flags & _BFLOAT16), bool(flags & _INT8))


@functools.cache
def here() -> Features:
  """Returns the features of this machine, read once."""
  return read()
