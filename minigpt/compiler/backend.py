"""Backends: for whom a function is traced. The only state read while tracing.

  xla           one XLA program for this machine
  xla-portable  one XLA program that leaves this machine, for any device
  cuda          one XLA program that leaves this machine, for NVIDIA's GPUs
  hybrid        TensorFlow's kernels multiply, XLA compiles what lies between
  graph         TensorFlow's kernels alone, as an unmodified server runs them
  graph-onednn  the same, with kernels of oneDNN that not every server has
  eager         nobody compiles: definitions run as they are written

The functions of the model are the same in all of them. `dispatch` chooses
which implementation of an operation is traced.
"""

import contextlib
import contextvars
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from minigpt.compiler import cpu_features
from minigpt.config import COMPILE_MODES
from minigpt.errors import unknown

EAGER = 'eager'
# Those that end as one XLA program.
WHOLE_XLA = ('xla', 'xla-portable', 'cuda')
# Those in which nothing is XLA's.
GRAPH = ('graph', 'graph-onednn')
COMPILED = (*WHOLE_XLA, 'hybrid', *GRAPH)

# Who runs a program that leaves TensorFlow, and the backend that it is for.
DEVICES = {'any': 'xla-portable', 'cuda': 'cuda'}


class Backend(NamedTuple):
  """What is known of the function being traced."""

  name: str
  frozen: bool = False  # Its weights are the same in every call.
  inference: bool = False  # Nobody takes a gradient of it.
  # Parts of it that were traced already, by their Python function; see
  # `subgraphs`.
  subgraphs: dict[Callable[..., Any], Any] = {}  # noqa: RUF012

  @property
  def is_whole_xla(self) -> bool:
    """Whether it becomes one XLA program, here or elsewhere."""
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
  """Declares that what is traced within is meant for `mode`.

  Args:
    mode: one of `COMPILE_MODES`, or 'graph-onednn'.
    frozen: the weights are the same in each call.
    inference: nobody takes a gradient.

  Raises:
    UsageError: there is no such mode.
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
  """Declares that XLA programs traced within are for one of `DEVICES`."""
  token = _device.set(device)
  try:
    yield
  finally:
    _device.reset(token)


def resolve_mode(
  mode: str,
  compute_dtype: str,
  trains: bool = False,
  cpu: cpu_features.Path = cpu_features.CPU_INFO,
) -> str:
  """Returns the mode that `auto` stands for; any other stays what it is.

  XLA's programs are the fastest, but for generation in bfloat16, where
  TensorFlow's kernels are, with prepacked weights, if the CPU has bfloat16 in
  hardware.

  Args:
    mode: one of `COMPILE_MODES`, or 'auto'.
    compute_dtype: of the activations.
    trains: whether training steps are compiled.
    cpu: what the system says of its processor.
  """
  if mode != 'auto':
    return mode
  generates_bfloat16 = compute_dtype == 'bfloat16' and not trains
  has_hardware = cpu_features.read(cpu).bfloat16
  return 'hybrid' if generates_bfloat16 and has_hardware else 'xla'
