"""Functions compiled for a backend."""

import functools
from collections.abc import Callable

import tensorflow as tf

from minigpt.compiler import backend
from minigpt.runtime import startup


def compiled(
  f: Callable,
  mode: str = 'xla',
  frozen: bool = False,
  inference: bool = False,
) -> tf.types.experimental.PolymorphicFunction:
  """Returns `f` as a `tf.function` that is traced for `mode`.

  Args:
    f: a function of tensors to tensors.
    mode: one of `COMPILE_MODES`, or 'graph-onednn'.
    frozen: the weights that `f` reads are the same in each call.
    inference: `f` is never differentiated, and computes no gradient itself.

  Raises:
    UsageError: the mode is unknown; raised by the first call.
  """

  @functools.wraps(f)
  def traced(*args, **kwargs):
    if mode not in backend.GRAPH:
      _set_xla_flags()
    with backend.tracing(mode, frozen, inference):
      return f(*args, **kwargs)

  # None, not False: False would add an attribute to every exported function.
  jit_compile = True if mode == 'xla' else None
  return tf.function(traced, autograph=False, jit_compile=jit_compile)


@functools.cache
def _set_xla_flags() -> None:
  """Sets minigpt's XLA flags, which XLA reads when it first compiles.

  Commands set them at start-up. This call is for users of the library: without
  one of the flags, `hybrid` programs can crash.
  """
  startup.set_xla_flags()


def retraced(
  f: tf.types.experimental.PolymorphicFunction, device: str
) -> tf.types.experimental.PolymorphicFunction:
  """Returns a function of the mode 'xla', traced again for another device.

  Compile the result on that device: this machine's XLA may not know the custom
  calls in it.

  Args:
    f: a function that `compiled` returned.
    device: one of `backend.DEVICES`.
  """

  @functools.wraps(f.python_function)
  def traced(*args):
    with backend.leaving_for(device):
      return f.python_function(*args)

  return tf.function(traced, autograph=False, jit_compile=True)
