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
    inference: nobody takes a gradient of `f`, nor does `f` itself.

  Raises:
    UsageError: when it is traced, and there is no such mode.
  """

  @functools.wraps(f)
  def traced(*args, **kwargs):
    if mode not in backend.GRAPH:
      _set_xla_flags()
    with backend.tracing(mode, frozen, inference):
      return f(*args, **kwargs)

  # jit_compile=False would leave a mark in an export, if a harmless one.
  jit_compile = True if mode == 'xla' else None
  return tf.function(traced, autograph=False, jit_compile=jit_compile)


@functools.cache
def _set_xla_flags() -> None:
  """Adds our flags for XLA, which reads them when it first compiles.

  Commands have done so already; who uses the library has not, and `hybrid`
  programs can crash without one of them.
  """
  startup.set_xla_flags()


def retraced(
  f: tf.types.experimental.PolymorphicFunction, device: str
) -> tf.types.experimental.PolymorphicFunction:
  """Returns what `compiled` made for 'xla', traced again for another device.

  Compile it there: this machine's XLA may not know its custom calls.

  Args:
    f: what `compiled` returned.
    device: one of `backend.DEVICES`.
  """

  @functools.wraps(f.python_function)
  def traced(*args):
    with backend.leaving_for(device):
      return f.python_function(*args)

  return tf.function(traced, autograph=False, jit_compile=True)
