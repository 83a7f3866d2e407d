"""Measures a workload: compilation, calls, memory."""

import statistics
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import tensorflow as tf

from minigpt.profiling.workloads import Workload
from minigpt.runtime import malloc


class Timing(NamedTuple):
  """Seconds of one call, and the memory that all took."""

  compile: float  # with tracing
  median: float
  lowest: float
  highest: float
  peak_kib: int  # of the process so far


def measure(workload: Workload, repeats: int) -> Timing:
  """Times a call that compiles, one that warms up, and `repeats` more.

  The time of `workload.before` is taken off. It comes first, too: what
  compiles is a call that does little, as in a run of training, and the
  compiler's memory is free again before the work takes its own.
  """
  import resource  # Unix has it.

  def run(**other: Any) -> None:  # Returns once the result is there.
    tf.nest.map_structure(lambda x: x.numpy(), workload(**other))

  def run_before() -> None:
    if workload.before:
      run(**workload.before)

  first = seconds_of(run_before)
  malloc.trim()
  first += seconds_of(run)  # `hybrid` mode compiles what runs.
  for warm_up in (run_before, run):
    warm_up()
  times, taken_off = [], []
  for _ in range(repeats):
    taken_off.append(seconds_of(run_before))
    times.append(seconds_of(run) - taken_off[-1])
  median = statistics.median(times)
  return Timing(
    first - median - 2 * statistics.median(taken_off),
    median,
    min(times),
    max(times),
    resource.getrusage(resource.RUSAGE_SELF).ru_maxrss,
  )


def seconds_of(call: Callable[[], Any]) -> float:
  """Returns how long a call takes."""
  start = time.perf_counter()
  call()
  return time.perf_counter() - start
