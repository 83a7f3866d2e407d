"""Many requests at once: how many a second, how long each, what fails."""

import collections
import concurrent.futures
import json
import time
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from minigpt.serving.endpoint import EndpointError


class Load(NamedTuple):
  """What a server did under load; times in seconds."""

  n_requests: int
  concurrency: int
  seconds: float
  latencies: np.ndarray  # f64, of the requests that were answered
  errors: dict[str, int]  # by kind

  @property
  def throughput(self) -> float:
    """Answers a second."""
    return len(self.latencies) / self.seconds

  def percentile(self, q: float) -> float:
    """NaN where nothing was answered."""
    known = self.latencies.size > 0
    return float(np.percentile(self.latencies, q)) if known else np.nan


def load_test(
  ask: Callable[[int], object], n_requests: int, concurrency: int
) -> Load:
  """Calls `ask(i)` for each request, `concurrency` of them at a time."""

  def one(i):
    started = time.monotonic()
    try:
      ask(i)
    except EndpointError as error:
      return error.kind
    return time.monotonic() - started

  started = time.monotonic()
  with concurrent.futures.ThreadPoolExecutor(concurrency) as pool:
    outcomes = list(pool.map(one, range(n_requests)))
  seconds = time.monotonic() - started
  failed = [kind for kind in outcomes if isinstance(kind, str)]
  answered = [s for s in outcomes if not isinstance(s, str)]
  return Load(
    n_requests,
    concurrency,
    seconds,
    np.array(answered),
    dict(collections.Counter(failed)),
  )


def summary(load: Load) -> str:
  """A line for each thing worth knowing."""
  p50, p95, p99 = (1e3 * load.percentile(q) for q in (50, 95, 99))
  failed = ', '.join(f'{n} {kind}' for kind, n in sorted(load.errors.items()))
  return (
    f'{load.n_requests} requests, {load.concurrency} at a time, '
    f'{load.seconds:.2f} s\n'
    f'{load.throughput:.2f} answers a second\n'
    f'latency p50 {p50:.1f} ms, p95 {p95:.1f} ms, p99 {p99:.1f} ms\n'
    f'errors: {failed or "none"}'
  )


def to_json(load: Load) -> str:
  return json.dumps(
    {
      'requests': load.n_requests,
      'concurrency': load.concurrency,
      'seconds': load.seconds,
      'throughput': load.throughput,
      'latency_seconds': {
        f'p{q}': load.percentile(q) if load.latencies.size else None
        for q in (50, 95, 99)
      },
      'errors': load.errors,
    },
    indent=2,
  )
