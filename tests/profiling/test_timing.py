"""Timing, with a clock that the call itself advances."""

import tensorflow as tf

from minigpt.profiling import timing
from minigpt.profiling.workloads import Workload


def test_the_time_of_the_prompt_is_taken_off(monkeypatch):
  now = [0.0]
  whole, prompt = iter([100, 50, 8, 11, 20]), iter([30, 40, 1, 2, 4])

  def f(n):
    now[0] += next(whole if n else prompt)
    return tf.zeros([])

  monkeypatch.setattr(timing.time, 'perf_counter', lambda: now[0])
  workload = Workload(
    f,
    {'n': 2},
    variables={},
    results=(),
    unit='token',
    n_units=2,
    n_tokens=4,
    flops=6.0,
    bytes=4.0,
    before={'n': 0},
  )
  found = timing.measure(workload, 3)
  # 130 until the first result, minus the time of both calls once compiled.
  assert found[:-1] == (130 - 9 - 2 * 2, 9, 7, 16)
  assert found.peak_kib > 0
