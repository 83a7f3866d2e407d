"""Load tests: the counts and the summary."""

import json
import threading

import numpy as np
import pytest

from minigpt.conformance.load_test import (
  LoadResult,
  load_test,
  summary,
  to_json,
)
from minigpt.serving.endpoint import EndpointError


def test_answers_and_errors_are_counted_by_kind():
  # Waits for ever unless two requests run at the same time.
  both = threading.Barrier(2, timeout=60)

  def send(i):
    both.wait()
    if i % 3 == 0:
      raise EndpointError('INVALID_ARGUMENT', 'no')

  result = load_test(send, n_requests=10, concurrency=2)
  assert result.errors == {'INVALID_ARGUMENT': 4}
  assert len(result.latencies) == 6
  assert 0 < result.latencies.max() <= result.seconds
  assert result.throughput == pytest.approx(6 / result.seconds)


def test_percentiles_and_errors_are_shown():
  latencies = np.arange(100) / 1e3
  result = LoadResult(101, 2, 10.0, latencies, {'UNAVAILABLE': 1})
  text = summary(result)
  assert '10.00 answers a second' in text
  assert 'p50 49.5 ms, p95 94.0 ms, p99 98.0 ms' in text
  assert 'errors: 1 UNAVAILABLE' in text
  assert json.loads(to_json(result))['latency_seconds']['p50'] == 0.0495


def test_without_answers_there_are_no_percentiles():
  result = LoadResult(1, 1, 1.0, np.array([]), {'UNAVAILABLE': 1})
  assert np.isnan(result.percentile(50))
  assert json.loads(to_json(result))['latency_seconds']['p99'] is None
