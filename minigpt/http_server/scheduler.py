"""Rows of all requests, continued together.

One thread asks the model for a chunk of tokens for every row that is there.
Between two chunks rows that have ended leave, and rows that wait join, so a
short answer does not wait for a long one, and nobody computes for a client that
has gone.
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

# Share of a chunk's time for which the next one waits for those who have just
# got an answer: they often ask again at once, and would miss a whole chunk.
_PATIENCE = 0.2


class Token(NamedTuple):
  """A token of an answer."""

  id: int
  log_prob: float
  alternatives: dict[int, float]  # log p by token, the most likely first


class Piece(NamedTuple):
  """What has become certain of an answer."""

  text: str
  tokens: list[Token]  # those that the text up to here is made of
  finish_reason: str | None  # 'stop' or 'length' in the last piece
  n_tokens: int  # sampled up to here


class Job:
  """One answer in the making.

  Attributes:
    row: what the model continues.
    cancelled: whether nobody wants it any more; set from any thread.
    streams: whether its reader waits for the first token.
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
      row: where it starts.
      tokenizer: of the model.
      deliver: called with each piece, or an error, by the scheduler's thread.
      streams: whether somebody waits for each piece.
    """
    self.row = row
    self.cancelled = False
    self.streams = streams
    self.deliver = deliver
    self._tokenizer = tokenizer
    self._text = Detokenizer(tokenizer, row.request.stop)
    self._n_bytes = 0  # Of all tokens that came.
    self._n_sampled = 0
    # Tokens that a stop string may yet cut off, with where their bytes begin.
    self._held: collections.deque[tuple[int, Token]] = collections.deque()

  @property
  def finished(self) -> bool:
    """Returns whether the answer needs no more tokens."""
    return self.cancelled or self.row.done or self._text.stopped

  def take(self, chunk: chunks.Chunk) -> None:
    """Adds new tokens, and delivers the text that has become certain."""
    end_of_text = self._tokenizer.end_of_text
    text, ended = '', False
    for i, token in enumerate(chunk.tokens.tolist()):
      self._n_sampled += 1
      ended = token == end_of_text
      if not ended:
        self._hold(token, chunk, i)
        text += self._text.add([token])
      if self._text.stopped:
        break  # Whatever else the chunk has, nobody is to see it.
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
    # A small vocabulary has fewer than were asked for.
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
  """How much work is taken on."""

  max_batch: int = 8  # rows continued together
  max_waiting: int = 256  # rows that wait for a place
  chunk: int = chunks.SIZE  # tokens between two looks at who is there


class Scheduler:
  """Continues jobs with one endpoint, until it is closed."""

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
    """Queues jobs, all or none.

    Raises:
      HttpError: 429 where too many wait already, 503 when closing.
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
    """Returns how many rows are continued, and how many wait."""
    with self._changed:
      return len(self._active), len(self._waiting)

  def close(self) -> None:
    """Finishes what was taken on, then ends the thread."""
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
    """Waits for work; returns none when closed and done."""
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
    """Gives each job a chunk, or its error."""
    # Who waits for a first token gets it before the others' chunk is full.
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
      except Exception as error:  # One row must not take the others along.
        self._fail([job], error)

  def _fail(self, batch: list[Job], error: Exception) -> None:
    """Tells the job that is at fault; all of them where none can be told."""
    told = _told(error)
    if told.status == 400 and len(batch) > 1:
      # One bad row fails a batch, so each is tried alone.
      for job in batch:
        self._step([job])
      return
    for job in batch:
      job.cancelled = True
      job.deliver(told)


def _told(error: Exception) -> HttpError:
  """Returns what a client is told of an error."""
  if isinstance(error, EndpointError):
    return of_endpoint(error)
  if isinstance(error, UsageError | InputError):
    return HttpError(400, str(error))
  return HttpError(500, f'{type(error).__name__} in the model')
