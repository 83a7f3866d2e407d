"""How a function becomes machine code: the one switch, read while tracing.

  xla     one XLA program: its compiler fuses and reuses buffers
  hybrid  TensorFlow's kernels multiply, XLA compiles what lies between
  graph   TensorFlow's kernels alone, as on a stock TensorFlow Serving

The functions of the model are the same in all three. Where a kernel of
TensorFlow wants a product or an update written in another way than XLA does,
the function that holds it asks `mode()`.
"""

import contextlib
import contextvars
import functools
import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import tensorflow as tf

from minigpt.config import COMPILE_MODES
from minigpt.errors import unknown

_CPU = Path('/proc/cpuinfo')

_BFLOAT16_UNITS = {'amx_bf16', 'avx512_bf16'}
_BYTE_UNITS = {'amx_int8', 'avx512_vnni', 'avx_vnni'}


class _Tracing(NamedTuple):
  mode: str
  frozen: bool
  pieces: dict[Callable, Callable]


# What no one has decided about must hold under XLA as well.
_UNDECIDED = _Tracing('xla', frozen=False, pieces={})
_tracing = contextvars.ContextVar('tracing', default=_UNDECIDED)

# What is to run a program that leaves TensorFlow. `cuda`: nothing but NVIDIA's.
DEVICES = ('any', 'cuda')
_HERE = 'here'
_device = contextvars.ContextVar('device', default=_HERE)


def mode() -> str:
  """One of `COMPILE_MODES`, that of the function being traced."""
  return _tracing.get().mode


def frozen() -> bool:
  """Whether the weights of the function being traced never change."""
  return _tracing.get().frozen


def pieces() -> dict[Callable, Callable]:
  """Parts of the function being traced, by what was traced; see `pieces`."""
  return _tracing.get().pieces


def device() -> str:
  """What is to run the function being traced: `here`, or one of `DEVICES`."""
  return _device.get()


def runs_here() -> bool:
  """Whether what is traced is for this machine's XLA, and for nothing else.

  What no one has decided about may run without XLA.
  """
  is_xla = mode() == 'xla' and _tracing.get() is not _UNDECIDED
  return is_xla and device() == _HERE


@functools.cache
def has_bfloat16_units() -> bool:
  """Whether this machine's CPU does the work, and has units for bfloat16."""
  return bool(_features(_CPU) & _BFLOAT16_UNITS)


@functools.cache
def has_byte_units() -> bool:
  """Whether this machine's CPU does the work, and multiplies bytes as such."""
  return bool(_features(_CPU) & _BYTE_UNITS)


def _features(cpu: Path) -> set[str]:
  """Of the processor that is to do the work; none if there is a GPU."""
  if tf.config.list_physical_devices('GPU') or not cpu.exists():
    return set()
  return set(cpu.read_text().split())


def after(x: tf.Tensor, y: tf.Tensor) -> tf.Tensor:
  """`x`, with which nothing can be computed before there is `y`.

  What does not change in a loop XLA computes before it: a cast of all weights,
  whose result is then read in each turn in their place. And what is to be
  computed once more, in place of being kept, would be computed early, or taken
  for what has been computed already.

  Args:
    y: float [N, ...], N at least 1.
  """
  if mode() != 'xla':
    with tf.control_dependencies([y]):
      return tf.identity(x)
  if x.dtype == tf.bfloat16:  # XLA would round what it subtracts from.
    return tf.bitcast(after(tf.bitcast(x, tf.int16), y), x.dtype)
  # Nothing is greater than infinity, but XLA's passes do not know that. The
  # code generator behind them does, and subtracts nothing.
  return x - tf.cast(_never(y), x.dtype)


def once(x: tf.Tensor) -> tf.Tensor:
  """`x`, which XLA computes once and not anew wherever it is used.

  A division is too dear to be repeated, so it ends the loop that makes `x`. And
  it stays in the shape that `x` has here: what XLA finds divided in another, it
  would reshape number by number wherever it is used.

  Args:
    x: float [N, ..., M], N and M at least 1.
  """
  if mode() != 'xla':
    return x
  # One divisor for all would let a reshape of `x` pass; columns are not divided
  # alike, for all that XLA knows.
  is_other = tf.range(tf.shape(x)[-1]) < tf.cast(_never(x), tf.int32)
  return x / (1 + tf.cast(is_other, x.dtype))


def settled(x: tf.Tensor) -> tf.Tensor:
  """`x`, whose gradient XLA computes `once`."""
  return _settled(x) if mode() == 'xla' else x


@tf.custom_gradient
def _settled(x):
  return tf.identity(x), once


def _never(x):
  return tf.reshape(x, [-1])[0] > math.inf


@contextlib.contextmanager
def tracing(mode: str, frozen: bool = False) -> Iterator[None]:
  """What is traced within is meant for `mode`.

  Args:
    frozen: the weights are what they are now in each call.

  Raises:
    UsageError: there is no such mode.
  """
  if mode not in COMPILE_MODES:
    raise unknown('compile', mode, COMPILE_MODES)
  token = _tracing.set(_Tracing(mode, frozen, {}))
  try:
    yield
  finally:
    _tracing.reset(token)


def compiled(
  f: Callable, mode: str = 'xla', frozen: bool = False
) -> tf.types.experimental.PolymorphicFunction:
  """`f` as a `tf.function` of that mode; for `frozen`, see `tracing`."""

  @functools.wraps(f)
  def traced(*args, **named):
    with tracing(mode, frozen):
      return f(*args, **named)

  # jit_compile=False would leave a mark in an export, if a harmless one.
  jit_compile = True if mode == 'xla' else None
  return tf.function(traced, autograph=False, jit_compile=jit_compile)


def retraced(
  f: tf.types.experimental.PolymorphicFunction, device: str
) -> tf.types.experimental.PolymorphicFunction:
  """What `compiled` made as one XLA program, traced again for one of `DEVICES`.

  To be compiled there: this machine's XLA may not know how.
  """

  @functools.wraps(f.python_function)
  def traced(*args):
    token = _device.set(device)
    try:
      return f.python_function(*args)
    finally:
      _device.reset(token)

  return tf.function(traced, autograph=False, jit_compile=True)


def choose(
  mode: str, compute_dtype: str, trains: bool = False, cpu: Path = _CPU
) -> str:
  """The mode that `auto` stands for; any other stays what it is.

  XLA's programs are the fastest, but for text in bfloat16, which TensorFlow's
  kernels write faster, of packed weights, if the CPU has units for it.

  Args:
    trains: whether steps of training are to be compiled.
    cpu: what the system says of its processor.
  """
  if mode != 'auto':
    return mode
  is_text = compute_dtype == 'bfloat16' and not trains
  return 'hybrid' if is_text and _features(cpu) & _BFLOAT16_UNITS else 'xla'
