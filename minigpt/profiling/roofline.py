"""The roofline: this machine's peak rates, and a workload's share of them.

Source: Williams et al. 2009. Operations and bytes are the fewest that the
config requires, so a program that needs more of them gets a lower share.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import tensorflow as tf

from minigpt.compiler import jit
from minigpt.kernels.quantize import quantize
from minigpt.model import layers
from minigpt.model.params import Linear
from minigpt.profiling.timing import Timing, seconds_of
from minigpt.profiling.workloads import Workload

# 256 MiB of float32: more than any cache holds.
_READ_NUMBERS = 2**26
_MODES = ('graph', 'xla')
_INT8 = ('int8', 'w8a8')
_ABOVE = (
  'faster than the roofline: its weights stay in a cache, or the machine was '
  'slower when its rates were measured; repeat it on an idle machine'
)


class Roofline(NamedTuple):
  """The peak rates of this machine."""

  flops: float  # operations a second, in matmuls of the dtype
  bandwidth: float  # bytes read a second


class Result(NamedTuple):
  """One measurement, ready to print.

  Times, operations and bytes are per unit.
  """

  unit: str
  ms_per_unit: float
  lowest_ms: float
  highest_ms: float
  tokens_per_s: float
  compile_s: float
  n_compiled: int
  peak_mib: float
  gflop_per_unit: float
  gbyte_per_unit: float
  roofline_gflops: float
  roofline_gbytes_per_s: float
  share_of_roofline: float
  note: str  # a warning about these figures, or empty

  @property
  def limits(self) -> Roofline:
    """Returns the peak rates to which the workload is compared."""
    return Roofline(
      self.roofline_gflops * 1e9, self.roofline_gbytes_per_s * 1e9
    )

  @property
  def intensity(self) -> float:
    """Returns the operations per byte."""
    return self.gflop_per_unit / self.gbyte_per_unit


def measure_roofline(
  compute_dtype: str, repeats: int, weights: str = 'float32', n: int = 2048
) -> Roofline:
  """Measures the peak rates of n by n matmuls and of reading memory.

  Each is measured with TensorFlow's kernels and with XLA; the faster counts.
  Matmuls with int8 weights use the model's XLA kernels.
  """
  x = tf.cast(tf.random.stateless_normal([n, n], [0, 0]), compute_dtype)
  big = tf.ones([_READ_NUMBERS])
  if weights in _INT8:
    layer: Any = Linear(tf.Variable(x))
    layer = quantize(layer, weights)
    matmul = _fastest(
      lambda x: layers.linear(x, layer)[0, 0], x, ['xla'], repeats
    )
  else:
    matmul = _fastest(lambda x: tf.matmul(x, x)[0, 0], x, _MODES, repeats)
  read = _fastest(tf.reduce_sum, big, _MODES, repeats)
  return Roofline(2 * n**3 / matmul, 4 * _READ_NUMBERS / read)


def _fastest(
  f: Callable[[tf.Tensor], tf.Tensor],
  x: tf.Tensor,
  modes: Sequence[str],
  repeats: int,
) -> float:
  """Returns the seconds of the fastest of `repeats` calls in each mode."""

  def call(run: Callable[[tf.Tensor], tf.Tensor]) -> float:
    return seconds_of(lambda: run(x).numpy())

  seconds = []
  for mode in modes:
    run = jit.compiled(f, mode)
    call(run)  # Compiles.
    seconds += [call(run) for _ in range(repeats)]
  return min(seconds)


def compare(workload: Workload, timing: Timing, limits: Roofline) -> Result:
  """Returns the measured figures, and the share of the roofline.

  At the roofline, a call takes the longer of two times: that of its operations
  and that of its bytes, at the machine's peak rates. A share above 1 gets a
  note.
  """
  at_best = max(
    workload.flops / limits.flops, workload.bytes / limits.bandwidth
  )
  ms = 1e3 / workload.n_units
  share = at_best / timing.median
  return Result(
    unit=workload.unit,
    ms_per_unit=timing.median * ms,
    lowest_ms=timing.lowest * ms,
    highest_ms=timing.highest * ms,
    tokens_per_s=workload.n_tokens / timing.median,
    compile_s=timing.compile,
    n_compiled=workload.f.experimental_get_tracing_count(),
    peak_mib=timing.peak_kib / 1024,
    gflop_per_unit=workload.flops / workload.n_units / 1e9,
    gbyte_per_unit=workload.bytes / workload.n_units / 1e9,
    roofline_gflops=limits.flops / 1e9,
    roofline_gbytes_per_s=limits.bandwidth / 1e9,
    share_of_roofline=share,
    note=_ABOVE if share > 1 else '',
  )
