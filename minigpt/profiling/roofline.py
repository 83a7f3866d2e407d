"""The roofline: what this machine reaches, and a workload's share of it.

Williams et al. 2009. Operations and bytes are counted from the config: a
program that makes more of them than it must loses by it, as it should.
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
  """What this machine reaches when it does nothing else."""

  flops: float  # operations a second, in matmuls of the dtype
  bandwidth: float  # bytes read a second


class Result(NamedTuple):
  """One measurement, ready to print.

  Times, operations and bytes are those of one unit, so they can be divided.
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
  note: str  # what to think of these figures; empty where that is plain

  @property
  def limits(self) -> Roofline:
    """Returns what the machine reached beside it."""
    return Roofline(
      self.roofline_gflops * 1e9, self.roofline_gbytes_per_s * 1e9
    )

  @property
  def intensity(self) -> float:
    """Returns the operations for each byte."""
    return self.gflop_per_unit / self.gbyte_per_unit


def measure_roofline(
  compute_dtype: str, repeats: int, weights: str = 'float32', n: int = 2048
) -> Roofline:
  """Returns the best rates of n by n matmuls and of reading memory.

  Both by TensorFlow's own kernels and by XLA: the faster counts. Matmuls with
  int8 weights are made as the model makes them in XLA.
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
    call(run)  # It compiles.
    seconds += [call(run) for _ in range(repeats)]
  return min(seconds)


def compare(workload: Workload, timing: Timing, limits: Roofline) -> Result:
  """Returns what was measured, and the share of what the machine reaches.

  A call at the roofline takes as long as the slower of its operations and its
  bytes. None can be faster; one that seems so has a note.
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
