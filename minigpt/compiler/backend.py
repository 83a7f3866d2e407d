"""Backends: what will compile and run the function that is being traced.

  xla           one XLA program for this machine
  xla-portable  one XLA program to be exported, for any device
  cuda          one XLA program to be exported, for NVIDIA's GPUs
  hybrid        TensorFlow's kernels for matmuls, XLA for the code in between
  graph         TensorFlow's kernels alone, as an unmodified server runs them
  graph-onednn  the same, with oneDNN kernels that not every server has
  eager         no compiler: the definitions run as they are written

The model's functions are the same for all backends. `dispatch` chooses which
implementation of each operation is traced; the backend is the only global
state that tracing reads.
"""

import contextlib
import contextvars
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from minigpt.compiler import cpu_features
from minigpt.config import COMPILE_MODES
from minigpt.errors import unknown

EAGER = 'eager'
# XLA compiles the whole function.
WHOLE_XLA = ('xla', 'xla-portable', 'cuda')
# XLA compiles none of it.
GRAPH = ('graph', 'graph-onednn')
COMPILED = (*WHOLE_XLA, 'hybrid', *GRAPH)

# Target devices of an exported XLA program, and their backends.
DEVICES = {'any': 'xla-portable', 'cuda': 'cuda'}


class Backend(NamedTuple):
  """The target of a trace, and what may be assumed of the traced function."""

  name: str
  frozen: bool = False  # The weights are the same in every call.
  inference: bool = False  # The function is never differentiated.
  # Subgraphs that are already traced, by their Python function; see the
  # module `subgraphs`.
  subgraphs: dict[Callable[..., Any], Any] = {}  # noqa: RUF012

  @property
  def is_whole_xla(self) -> bool:
    """Whether XLA compiles the whole function, on any machine."""
    return self.name in WHOLE_XLA


_EAGER = Backend(EAGER)
_current: contextvars.ContextVar[Backend] = contextvars.ContextVar('backend')
_device: contextvars.ContextVar[str] = contextvars.ContextVar('device')


def current() -> Backend:
  """Returns the backend of the function being traced."""
  return _current.get(_EAGER)


@contextlib.contextmanager
def tracing(
  mode: str, frozen: bool = False, inference: bool = False
) -> Iterator[None]:
  """Sets the backend of everything traced inside the context.

  Args:
    mode: one of `COMPILE_MODES`, or 'graph-onednn'.
    frozen: the weights are the same in each call.
    inference: the function is never differentiated.

  Raises:
    UsageError: the mode is unknown.
  """
  if mode not in (*COMPILE_MODES, *GRAPH):
    raise unknown('compile', mode, COMPILE_MODES)
  elsewhere = DEVICES.get(_device.get('')) if mode == 'xla' else None
  name = elsewhere or mode
  token = _current.set(Backend(name, frozen, inference, {}))
  try:
    yield
  finally:
    _current.reset(token)


@contextlib.contextmanager
def leaving_for(device: str) -> Iterator[None]:
  """Makes XLA programs traced inside the context exports for `device`."""
  token = _device.set(device)
  try:
    yield
  finally:
    _device.reset(token)


def served_mode(compute_dtype: str) -> str:
  """Returns the mode of an export whose matmuls are in a dtype."""
  return 'graph' if compute_dtype == 'float32' else 'graph-onednn'


def resolve_mode(
  mode: str,
  compute_dtype: str,
  trains: bool = False,
  cpu: cpu_features.Path = cpu_features.CPU_INFO,
) -> str:
  """Replaces the mode `auto` by the fastest one; returns any other unchanged.

  XLA programs are the fastest, with one exception: generation in bfloat16 on a
  CPU that has it in hardware, where TensorFlow's matmuls with prepacked weights
  are faster.

  Args:
    mode: one of `COMPILE_MODES`, or 'auto'.
    compute_dtype: dtype of the activations.
    trains: whether training steps are compiled.
    cpu: the file that describes the processor; see `cpu_features.read`.
  """
  if mode != 'auto':
    return mode
  generates_bfloat16 = compute_dtype == 'bfloat16' and not trains
  has_hardware = cpu_features.read(cpu).bfloat16
  return 'hybrid' if generates_bfloat16 and has_hardware else 'xla'
