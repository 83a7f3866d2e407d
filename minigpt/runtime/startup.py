"""`command` for programs that use TensorFlow, which they import first.

It keeps off the terminal what TensorFlow says of missing GPUs before its log
level counts, and Python from searching a million imported objects for garbage,
which takes most of a second of each import and more at the end. Only programs
import this module.
"""

import contextlib
import gc
import os
import sys
from collections.abc import Iterator

from minigpt.runtime import malloc
from minigpt.runtime.app import define_flags, given, guarded, run

__all__ = ['define_flags', 'given', 'guarded', 'run']


@contextlib.contextmanager
def _stderr_closed() -> Iterator[None]:
  """Silences native code, which knows nothing of sys.stderr."""
  sys.stderr.flush()
  kept, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
  os.dup2(nowhere, 2)
  try:
    yield
  finally:
    os.dup2(kept, 2)
    os.close(kept)
    os.close(nowhere)


def xla_flags(given: str, version: str) -> str:
  """The user's flags and, where they leave it open, ours.

  XLA ends the process at a flag that it does not know.

  Args:
    version: TensorFlow's, as in `2.21.0`.
  """
  if given.strip()[:1] not in ('', '-'):
    return given  # It names a file of flags.
  # XLA halves the vectors of a processor with AVX-512 unless told not to.
  ours = {'xla_cpu_prefer_vector_width': '512'}
  if tuple(map(int, version.split('.')[:2])) >= (2, 21):
    # Two threads that run one program for the first time, as in `hybrid` mode,
    # can crash where it sums by YNNPACK, whose graph they build in one place.
    ours['xla_cpu_experimental_ynn_fusion_type'] = '-reduce'
  added = [f'--{name}={v}' for name, v in ours.items() if name not in given]
  return ' '.join([*added, given])


# Of a lost worker, the others tell in many lines of their own.
_QUIET = '3' if 'TF_CONFIG' in os.environ else '2'
os.environ.setdefault('TF_CPP_MIN_LOG_LEVEL', _QUIET)
gc.disable()
with _stderr_closed():
  import tensorflow as tf

  os.environ['XLA_FLAGS'] = xla_flags(
    os.environ.get('XLA_FLAGS', ''), tf.__version__
  )
  tf.config.get_visible_devices()

gc.freeze()
gc.enable()
malloc.keep()
