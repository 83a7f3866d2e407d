"""Measures a server under concurrent requests: rate, latency, errors."""

import collections
import concurrent.futures
import json
import time
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from minigpt.serving.endpoint import EndpointError

# Each concurrent request takes a thread and a connection.
MAX_CONCURRENCY = 1024


class LoadResult(NamedTuple):
  """The results of a load test; times in seconds."""

  n_requests: int
  concurrency: int
  seconds: float
  latencies: np.ndarray  # f64 [N], of the N requests that were answered
  errors: dict[str, int]  # by kind

  @property
  def throughput(self) -> float:
    """Returns the answers per second."""
    return len(self.latencies) / self.seconds

  def percentile(self, q: float) -> float:
    """Returns a percentile of the latencies; NaN if there is no answer."""
    if not self.latencies.size:
      return float('nan')
    return float(np.percentile(self.latencies, q))


def load_test(
  send: Callable[[int], object], n_requests: int, concurrency: int
) -> LoadResult:
  """Calls `send(i)` for each request, `concurrency` of them at a time.

  Args:
    send: sends request i and waits for the answer; may raise EndpointError.
    n_requests: 1 or more.
    concurrency: from 1 to `MAX_CONCURRENCY`.
  """

  def send_timed(i: int) -> float | str:
    started = time.monotonic()
    try:
      send(i)
    except EndpointError as error:
      return error.kind
    return time.monotonic() - started

  started = time.monotonic()
  with concurrent.futures.ThreadPoolExecutor(concurrency) as pool:
    outcomes = list(pool.map(send_timed, range(n_requests)))
  seconds = time.monotonic() - started
  failed = [kind for kind in outcomes if isinstance(kind, str)]
  return LoadResult(
    n_requests,
    concurrency,
    seconds,
    np.array([s for s in outcomes if not isinstance(s, str)]),
    dict(collections.Counter(failed)),
  )


def summary(result: LoadResult) -> str:
  """Returns four lines of text: amount, rate, latencies and errors."""
  p50, p95, p99 = (1e3 * result.percentile(q) for q in (50, 95, 99))
  errors = ', '.join(f'{n} {kind}' for kind, n in sorted(result.errors.items()))
  return (
    f'{result.n_requests} requests, {result.concurrency} at a time, '
    f'{result.seconds:.2f} s\n'
    f'{result.throughput:.2f} answers a second\n'
    f'latency p50 {p50:.1f} ms, p95 {p95:.1f} ms, p99 {p99:.1f} ms\n'
    f'errors: {errors or "none"}'
  )


def to_json(result: LoadResult) -> str:
  """Returns the result as a JSON object; times in seconds."""
  return json.dumps(
    {
      'requests': result.n_requests,
      'concurrency': result.concurrency,
      'seconds': result.seconds,
      'throughput': result.throughput,
      'latency_seconds': {
        f'p{q}': result.percentile(q) if result.latencies.size else None
        for q in (50, 95, 99)
      },
      'errors': result.errors,
    },
    indent=2,
  )
