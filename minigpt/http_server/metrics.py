"""Counters in Prometheus' text format.

https://prometheus.io/docs/instrumenting/exposition_formats/
"""

import collections
import threading
from collections.abc import Iterator

_BUCKETS = (0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0)


class Histogram:
  """A histogram: for each bound, the number of values up to it."""

  def __init__(self) -> None:
    self.sum, self.n = 0.0, 0
    self.counts = [0] * len(_BUCKETS)

  def add(self, value: float) -> None:
    """Counts a value."""
    self.sum, self.n = self.sum + value, self.n + 1
    for i, bound in enumerate(_BUCKETS):
      self.counts[i] += value <= bound

  def lines(self, name: str) -> Iterator[str]:
    """Yields the lines of the text format."""
    for bound, n in zip(_BUCKETS, self.counts, strict=True):
      yield f'{name}_bucket{{le="{bound:g}"}} {n}'
    yield f'{name}_bucket{{le="+Inf"}} {self.n}'
    yield f'{name}_sum {self.sum:.6f}'
    yield f'{name}_count {self.n}'


class Metrics:
  """The metrics of a server since its start; any thread may count."""

  def __init__(self) -> None:
    self._lock = threading.Lock()
    self._requests: collections.Counter[tuple[str, int]] = collections.Counter()
    self._totals = collections.Counter(
      dict.fromkeys(('prompt_tokens', 'generated_tokens', 'chunks', 'rows'), 0)
    )
    self._seconds = {
      name: Histogram() for name in ('request', 'first_token', 'chunk')
    }

  def count_request(self, path: str, status: int, seconds: float) -> None:
    """Counts an answer; `path` is that of a route."""
    with self._lock:
      self._requests[path, status] += 1
      self._seconds['request'].add(seconds)

  def count_prompts(self, n_tokens: int) -> None:
    """Counts the tokens of the prompts of a request."""
    with self._lock:
      self._totals['prompt_tokens'] += n_tokens

  def count_first_token(self, seconds: float) -> None:
    """Counts the time to the first token of a streamed answer."""
    with self._lock:
      self._seconds['first_token'].add(seconds)

  def count_chunk(self, n_rows: int, n_tokens: int, seconds: float) -> None:
    """Counts a call of the model."""
    with self._lock:
      self._totals.update(chunks=1, rows=n_rows, generated_tokens=n_tokens)
      self._seconds['chunk'].add(seconds)

  def text(self, n_active: int, n_waiting: int) -> str:
    """Returns all metrics as text, with the current numbers of rows."""
    return '\n'.join(self._lines(n_active, n_waiting)) + '\n'

  def _lines(self, n_active: int, n_waiting: int) -> Iterator[str]:
    gauges = {'active_rows': n_active, 'waiting_rows': n_waiting}
    for name, value in gauges.items():
      yield f'# TYPE minigpt_{name} gauge'
      yield f'minigpt_{name} {value}'
    with self._lock:
      yield '# TYPE minigpt_requests_total counter'
      for (path, status), n in sorted(self._requests.items()):
        yield f'minigpt_requests_total{{path="{path}",status="{status}"}} {n}'
      for name, n in self._totals.items():
        yield f'# TYPE minigpt_{name}_total counter'
        yield f'minigpt_{name}_total {n}'
      for name, histogram in self._seconds.items():
        yield f'# TYPE minigpt_{name}_seconds histogram'
        yield from histogram.lines(f'minigpt_{name}_seconds')
