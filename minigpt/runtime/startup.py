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

  Sets the log level, XLA's flags and the allocator, unless the user has set
  them. Suppresses deprecation warnings, and the message that no GPU was found,
  which TensorFlow prints whatever the log level.
  """
  # With several workers, the loss of one makes the others log many errors.
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
  """Exempts objects created inside the context from garbage collection.

  A collection that traverses TensorFlow's million objects takes as long as the
  import, and there would be another when the process ends.
  """
  gc.disable()
  try:
    yield
    gc.freeze()
  finally:
    gc.enable()


def set_xla_flags() -> None:
  """Adds minigpt's flags to the environment variable XLA_FLAGS.

  XLA reads it when a process compiles its first program, so a later call has no
  effect. The flags depend on TensorFlow's version, so this imports TensorFlow.
  """
  import tensorflow as tf

  os.environ['XLA_FLAGS'] = xla_flags(
    os.environ.get('XLA_FLAGS', ''), tf.__version__
  )


def xla_flags(user_flags: str, version: str) -> str:
  """Returns the user's flags, and minigpt's where the user has set none.

  XLA aborts the process at a flag that it does not know, so flags depend on the
  version.

  Args:
    user_flags: the value of XLA_FLAGS.
    version: TensorFlow's version, as in `2.21.0`.
  """
  if user_flags.strip()[:1] not in ('', '-'):
    return user_flags  # The name of a file with flags.
  # By default, XLA uses vectors of 256 bits even on AVX-512.
  ours = {'xla_cpu_prefer_vector_width': '512'}
  if tuple(map(int, version.split('.')[:2])) >= (2, 21):
    # Without this flag, XLA reduces with YNNPACK, which can crash when two
    # threads run a program for the first time, as in `hybrid` mode: both build
    # YNNPACK's graph in the same place.
    ours['xla_cpu_experimental_ynn_fusion_type'] = '-reduce'
  added = [
    f'--{name}={v}' for name, v in ours.items() if name not in user_flags
  ]
  return ' '.join([*added, user_flags])


@contextlib.contextmanager
def _stderr_closed() -> Iterator[None]:
  """Discards the standard error of native code, which bypasses sys.stderr."""
  sys.stderr.flush()
  kept, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
  os.dup2(nowhere, 2)
  try:
    yield
  finally:
    os.dup2(kept, 2)
    os.close(kept)
    os.close(nowhere)
