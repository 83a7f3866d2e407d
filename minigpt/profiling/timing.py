"""Measures a workload: time to compile, time per call, memory."""

import statistics
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import tensorflow as tf

from minigpt.profiling.workloads import Workload
from minigpt.runtime import malloc


class Timing(NamedTuple):
  """Seconds of one call, and the peak memory of the process."""

  compile: float  # including tracing
  median: float
  lowest: float
  highest: float
  peak_kib: int  # of the process so far


def measure(workload: Workload, repeats: int) -> Timing:
  """Times a call that compiles, one that warms up, and `repeats` more.

  The time of a call with `workload.before` is subtracted. Such a call is also
  the one that compiles, as in training: it does little, so that the compiler
  can free its memory before the workload takes memory.
  """
  import resource  # Only Unix has it.

  def run(**other: Any) -> None:  # Waits for the result.
    tf.nest.map_structure(lambda x: x.numpy(), workload(**other))

  def run_before() -> None:
    if workload.before:
      run(**workload.before)

  first = seconds_of(run_before)
  malloc.trim()
  first += seconds_of(run)  # `hybrid` mode compiles parts when they first run.
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
  """Returns the duration of a call in seconds."""
  start = time.perf_counter()
  call()
  return time.perf_counter() - start
