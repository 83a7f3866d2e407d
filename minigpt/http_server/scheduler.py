"""Batches the rows of all requests.

One thread calls the model for a chunk of tokens for all active rows. Between
two chunks, finished rows leave the batch and waiting rows join. So a short
answer does not wait for a long one, and rows of disconnected clients are
dropped.
"""

import collections
import dataclasses
import threading
import time
from collections.abc import Callable, Sequence
from typing import NamedTuple

from minigpt.errors import InputError, UsageError
from minigpt.generation.detokenizer import Detokenizer
from minigpt.http_server.errors import HttpError, of_endpoint
from minigpt.http_server.metrics import Metrics
from minigpt.serving import chunks
from minigpt.serving.endpoint import Endpoint, EndpointError
from minigpt.tokenizers import Tokenizer

# After answers have finished, the next chunk waits for this share of a chunk's
# time: their clients often send another request at once, which would otherwise
# miss a whole chunk.
_PATIENCE = 0.2


class Token(NamedTuple):
  """A token of an answer."""

  id: int
  log_prob: float
  alternatives: dict[int, float]  # log p by token, the most likely first


class Piece(NamedTuple):
  """New text of an answer that no stop string can cut off any more."""

  text: str
  tokens: list[Token]  # the new tokens of the text
  finish_reason: str | None  # 'stop' or 'length' in the last piece
  n_tokens: int  # tokens sampled so far


class Job:
  """An answer in progress.

  Attributes:
    row: the state of generation.
    cancelled: whether the answer is no longer wanted; any thread may set it.
    streams: whether the client waits for the first token.
  """

  def __init__(
    self,
    row: chunks.Row,
    tokenizer: Tokenizer,
    deliver: Callable[[Piece | HttpError], None],
    streams: bool = False,
  ):
    """Prepares an answer.

    Args:
      row: the state after the prompt.
      tokenizer: of the model.
      deliver: called with each piece, or an error, by the scheduler's thread.
      streams: whether the client waits for the first token.
    """
    self.row = row
    self.cancelled = False
    self.streams = streams
    self.deliver = deliver
    self._tokenizer = tokenizer
    self._text = Detokenizer(tokenizer, row.request.stop)
    self._n_bytes = 0  # of all tokens so far
    self._n_sampled = 0
    # Tokens that a stop string may still cut off, by their offset in bytes.
    self._held: collections.deque[tuple[int, Token]] = collections.deque()

  @property
  def finished(self) -> bool:
    """Returns whether the answer needs no further tokens."""
    return self.cancelled or self.row.done or self._text.stopped

  def take(self, chunk: chunks.Chunk) -> None:
    """Adds new tokens, and delivers the text that they release."""
    end_of_text = self._tokenizer.end_of_text
    text, ended = '', False
    for i, token in enumerate(chunk.tokens.tolist()):
      self._n_sampled += 1
      ended = token == end_of_text
      if not ended:
        self._hold(token, chunk, i)
        text += self._text.add([token])
      if self._text.stopped:
        break  # The rest of the chunk is not part of the answer.
    if self.row.done:
      text += self._text.finish()
    reason = None
    if self.row.done or self._text.stopped:
      is_whole = ended or self._text.stopped or self.row.stopped
      reason = 'stop' if is_whole else 'length'
    self.deliver(Piece(text, self._release(), reason, self._n_sampled))

  def _hold(self, token: int, chunk: chunks.Chunk, i: int) -> None:
    others = chunk.alternatives[i].tolist()
    scores = chunk.alternative_log_probs[i].tolist()
    # A small vocabulary has fewer alternatives than requested.
    known = {t: s for t, s in zip(others, scores, strict=True) if t >= 0}
    said = Token(token, float(chunk.log_probs[i]), known)
    self._held.append((self._n_bytes, said))
    self._n_bytes += len(self._tokenizer.tokens[token])

  def _release(self) -> list[Token]:
    released = []
    while self._held and self._held[0][0] < self._text.n_bytes:
      released.append(self._held.popleft()[1])
    return released


@dataclasses.dataclass(frozen=True)
class Limits:
  """Limits of the scheduler."""

  max_batch: int = 8  # rows in a batch
  max_waiting: int = 256  # rows that may wait to join
  chunk: int = chunks.SIZE  # tokens generated before rows join or leave


class Scheduler:
  """Runs jobs on one endpoint, until it is closed."""

  def __init__(
    self,
    endpoint: Endpoint,
    limits: Limits,
    metrics: Metrics,
    compiled_sizes: Sequence[int] = (),
  ):
    """Starts the thread; see `chunks.batch_size` for the sizes."""
    self._endpoint, self._limits, self._metrics = endpoint, limits, metrics
    self._compiled_sizes = compiled_sizes
    self._size = min(limits.chunk, chunks.limit(endpoint))
    self._changed = threading.Condition()
    self._waiting: collections.deque[Job] = collections.deque()
    self._active: list[Job] = []
    self._closing = False
    self._chunk_seconds = 0.0  # that the last one took
    self._thread = threading.Thread(target=self._run, daemon=True)
    self._thread.start()

  def submit(self, jobs: Sequence[Job]) -> None:
    """Queues all of the jobs, or none.

    Raises:
      HttpError: 429 if too many wait already, 503 during shutdown.
    """
    with self._changed:
      if self._closing:
        raise HttpError(503, 'the server is shutting down')
      if len(self._waiting) + len(jobs) > self._limits.max_waiting:
        self._drop_cancelled()
      if len(self._waiting) + len(jobs) > self._limits.max_waiting:
        raise HttpError(429, 'too many requests wait already; try again later')
      self._waiting.extend(jobs)
      self._changed.notify()

  def counts(self) -> tuple[int, int]:
    """Returns the numbers of active and of waiting rows."""
    with self._changed:
      return len(self._active), len(self._waiting)

  def close(self) -> None:
    """Finishes all jobs, then ends the thread."""
    with self._changed:
      self._closing = True
      self._changed.notify()
    self._thread.join()

  def _drop_cancelled(self) -> None:
    kept = [job for job in self._waiting if not job.cancelled]
    self._waiting = collections.deque(kept)

  def _run(self) -> None:
    while batch := self._next_batch():
      self._step(batch)

  def _next_batch(self) -> list[Job]:
    """Waits for jobs; returns an empty list when closed and finished."""
    with self._changed:
      n_before = len(self._active)
      self._active = [job for job in self._active if not job.finished]
      self._drop_cancelled()
      while not (self._active or self._waiting or self._closing):
        self._changed.wait()
      self._changed.wait_for(
        lambda: (
          self._closing or len(self._active) + len(self._waiting) >= n_before
        ),
        _PATIENCE * self._chunk_seconds,
      )
      while self._waiting and len(self._active) < self._limits.max_batch:
        self._active.append(self._waiting.popleft())
      return list(self._active)

  def _step(self, batch: list[Job]) -> None:
    """Generates a chunk for each job, or delivers an error."""
    # A first chunk of one token brings streams their first token sooner.
    first = all(job.row.n_sampled == 0 for job in batch)
    n_new = 1 if first and any(job.streams for job in batch) else self._size
    started = time.monotonic()
    try:
      rows = [job.row for job in batch]
      found = chunks.predict(self._endpoint, rows, n_new, self._compiled_sizes)
    except Exception as error:
      self._fail(batch, error)
      return
    n_tokens = sum(len(chunk.tokens) for chunk in found)
    self._chunk_seconds = time.monotonic() - started
    self._metrics.count_chunk(len(batch), n_tokens, self._chunk_seconds)
    for job, chunk in zip(batch, found, strict=True):
      try:
        job.take(chunk)
      except Exception as error:  # An error in one row must not stop others.
        self._fail([job], error)

  def _fail(self, batch: list[Job], error: Exception) -> None:
    """Delivers an error to the job that caused it, or to all if unknown."""
    told = _told(error)
    if told.status == 400 and len(batch) > 1:
      # One bad row fails the whole batch, so try each row alone.
      for job in batch:
        self._step([job])
      return
    for job in batch:
      job.cancelled = True
      job.deliver(told)


def _told(error: Exception) -> HttpError:
  """Returns the error that is reported to the client."""
  if isinstance(error, EndpointError):
    return of_endpoint(error)
  if isinstance(error, UsageError | InputError):
    return HttpError(400, str(error))
  return HttpError(500, f'{type(error).__name__} in the model')
