"""Prepares a process for TensorFlow, before its import or its first program.

Importing this module changes nothing; its functions do.
"""

import contextlib
import gc
import os
import sys
from collections.abc import Iterator

from minigpt.runtime import malloc


def configure() -> None:
  """Prepares the process of a command, and imports TensorFlow.

  Sets the log level, XLA's flags and the allocator, where the user leaves them
  open; keeps TensorFlow from printing that it found no GPU, which it does
  before its log level counts, and what is deprecated.
  """
  # When a worker is lost, the others print many lines about it.
  quiet = '3' if 'TF_CONFIG' in os.environ else '2'
  level = os.environ.setdefault('TF_CPP_MIN_LOG_LEVEL', quiet)
  with outside_garbage_collection(), _stderr_closed():
    import tensorflow as tf

    if level >= quiet:
      tf.get_logger().setLevel('ERROR')
    set_xla_flags()
    tf.config.get_visible_devices()
  malloc.keep_freed_memory()


@contextlib.contextmanager
def outside_garbage_collection() -> Iterator[None]:
  """Exempts what is imported within from garbage collection.

  To search TensorFlow's million objects takes as long as to import them, and
  they would be searched again when the process ends.
  """
  gc.disable()
  try:
    yield
    gc.freeze()
  finally:
    gc.enable()


def set_xla_flags() -> None:
  """Adds our flags to the environment variable XLA_FLAGS.

  XLA reads it when a process compiles its first program; later calls change
  nothing. Imports TensorFlow, for its version.
  """
  import tensorflow as tf

  os.environ['XLA_FLAGS'] = xla_flags(
    os.environ.get('XLA_FLAGS', ''), tf.__version__
  )


def xla_flags(user_flags: str, version: str) -> str:
  """Returns the user's flags and, for what they leave open, ours.

  XLA ends the process at a flag that it does not know.

  Args:
    user_flags: the value of XLA_FLAGS.
    version: TensorFlow's, as in `2.21.0`.
  """
  if user_flags.strip()[:1] not in ('', '-'):
    return user_flags  # The name of a file with flags.
  # XLA halves the vectors of a processor with AVX-512 unless told not to.
  ours = {'xla_cpu_prefer_vector_width': '512'}
  if tuple(map(int, version.split('.')[:2])) >= (2, 21):
    # Two threads that run one program for the first time, as in `hybrid` mode,
    # can crash where it reduces with YNNPACK: both build its graph in the same
    # place.
    ours['xla_cpu_experimental_ynn_fusion_type'] = '-reduce'
  added = [
    f'--{name}={v}' for name, v in ours.items() if name not in user_flags
  ]
  return ' '.join([*added, user_flags])


@contextlib.contextmanager
def _stderr_closed() -> Iterator[None]:
  """Discards what native code prints: it does not use Python's sys.stderr."""
  sys.stderr.flush()
  kept, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
  os.dup2(nowhere, 2)
  try:
    yield
  finally:
    os.dup2(kept, 2)
    os.close(kept)
    os.close(nowhere)
