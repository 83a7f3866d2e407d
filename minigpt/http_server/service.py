"""The service behind the routes, independent of HTTP."""

import asyncio
import dataclasses
from collections.abc import AsyncIterator, Callable
from typing import Any

import numpy as np

from minigpt.errors import InputError
from minigpt.http_server import answers, protocol
from minigpt.http_server.errors import HttpError, of_endpoint
from minigpt.http_server.metrics import Metrics
from minigpt.http_server.protocol import Asked
from minigpt.http_server.scheduler import Job, Limits, Piece, Scheduler
from minigpt.serving import chunks
from minigpt.serving.endpoint import Endpoint, EndpointError
from minigpt.tokenizers import Tokenizer, encode_prompt

_MAX_INPUTS = 64  # Texts in a request for embeddings.


@dataclasses.dataclass(frozen=True)
class Model:
  """The model that is served."""

  name: str
  endpoint: Endpoint
  tokenizer: Tokenizer
  context_length: int
  created: int = 0  # seconds since 1970
  template: Callable[[Any], str] | None = None  # from chat messages to a prompt
  stop: tuple[str, ...] = ()  # stop strings of all answers without a grammar
  # The grammars of the model card, by name.
  grammars: protocol.Grammars = dataclasses.field(default_factory=dict)
  compiled_sizes: tuple[int, ...] = ()  # batch sizes; () without XLA


@dataclasses.dataclass(frozen=True)
class Bounds:
  """Limits of a request."""

  body_bytes: int = 1 << 20
  prompt_tokens: int | None = None  # None: the context
  max_tokens: int = 4096
  body_seconds: float = 30.0  # time to receive the body


class Service:
  """Answers requests for one model."""

  def __init__(self, model: Model, limits: Limits, bounds: Bounds):
    """Starts the scheduler.

    Raises:
      EndpointError: the export is too old: it has no chunk signatures.
    """
    self.model, self.bounds = model, bounds
    self.metrics = Metrics()
    self.scheduler = Scheduler(
      model.endpoint, limits, self.metrics, model.compiled_sizes
    )
    self._embeds = asyncio.Semaphore(1)
    self._n_embeds_left = limits.max_waiting

  def close(self) -> None:
    """Finishes all answers in progress."""
    self.scheduler.close()

  def check_model(self, body: dict[str, Any]) -> None:
    """Refuses a request for another model than the one served."""
    name = body.get('model')
    if name != self.model.name:
      raise HttpError(
        404 if isinstance(name, str) else 400,
        f'model={name!r:.80}: this server has {self.model.name!r}',
        'model',
        'model_not_found',
      )

  def read(self, body: dict[str, Any], is_chat: bool) -> 'Generation':
    """Parses a request for text, and encodes its prompts."""
    self.check_model(body)
    if is_chat and self.model.template is None:
      raise HttpError(
        400,
        f'{self.model.name!r} has no chat template: ask /v1/completions, or '
        'start the server with --chat_template',
      )
    read = protocol.chat if is_chat else protocol.completion
    asked = read(body, self.bounds.max_tokens, self.model.grammars)
    asked = _with_stop(asked, self.model.stop)
    prompts = [self._encode(prompt, is_chat) for prompt in asked.prompts]
    self.metrics.count_prompts(sum(map(len, prompts)))
    return Generation(self, asked, prompts, is_chat)

  def _encode(self, prompt: Any, is_chat: bool) -> np.ndarray:
    """Returns the tokens of a prompt (text, tokens or messages), int32 [T]."""
    field = 'messages' if is_chat else 'prompt'
    try:
      if is_chat:
        assert self.model.template
        prompt = self.model.template(prompt)
      if isinstance(prompt, str):
        ids = encode_prompt(self.model.tokenizer, prompt)
      else:
        self.model.tokenizer.decode_bytes(prompt)  # Refuses unknown tokens.
        ids = np.array(prompt, np.int32)
    except (InputError, OverflowError) as error:
      raise HttpError(400, str(error), field) from None
    limit = self.bounds.prompt_tokens or self.model.context_length
    if len(ids) > limit:
      message = f'{field}: {len(ids)} tokens; at most {limit} can be read'
      raise HttpError(400, message, field, 'context_length_exceeded')
    return ids[-self.model.context_length :]

  async def embed(self, body: dict[str, Any]) -> dict[str, Any]:
    """Answers /v1/embeddings."""
    self.check_model(body)
    texts, form = protocol.embedding(body, _MAX_INPUTS)
    n_tokens = sum(len(self._encode(text, is_chat=False)) for text in texts)
    self.metrics.count_prompts(n_tokens)
    if not self._n_embeds_left:
      raise HttpError(429, 'too many requests wait already; try again later')
    self._n_embeds_left -= 1
    try:
      async with self._embeds:
        found = await asyncio.to_thread(
          self.model.endpoint.predict, 'embed', {'text': texts}
        )
    except EndpointError as error:
      raise of_endpoint(error) from None
    finally:
      self._n_embeds_left += 1
    vectors = found['embedding']
    return answers.embeddings(self.model.name, vectors, form, n_tokens)


def _with_stop(asked: Asked, stop: tuple[str, ...]) -> Asked:
  request = asked.request
  if request.grammar:  # A grammar decides itself where a text ends.
    return asked
  request = dataclasses.replace(request, stop=(*request.stop, *stop))
  return asked._replace(request=request)


class Generation:
  """A request for text in progress."""

  def __init__(
    self,
    service: Service,
    asked: Asked,
    prompts: list[np.ndarray],
    is_chat: bool,
  ):
    self.asked = asked
    self._service = service
    self._n_answers = len(prompts) * asked.n
    self._n_prompt_tokens = sum(map(len, prompts))
    self._prompts = prompts
    model = service.model
    self._writer = answers.Writer(
      model.name,
      model.tokenizer,
      is_chat,
      self._n_answers,
      asked.logprobs is not None,
    )
    self._jobs: list[Job] = []
    self._arrived: asyncio.Queue[tuple[int, Piece | HttpError]]

  def start(self) -> None:
    """Queues the rows; called in the event loop. Raises HttpError."""
    loop, self._arrived = asyncio.get_running_loop(), asyncio.Queue()

    def job(i: int) -> Job:
      ids = self._prompts[i // self.asked.n]
      request = protocol.row_request(self.asked, i)
      row = chunks.Row(ids, request, self.asked.logprobs or 0)

      def deliver(piece: Piece | HttpError) -> None:
        loop.call_soon_threadsafe(self._arrived.put_nowait, (i, piece))

      return Job(row, self._service.model.tokenizer, deliver, self.asked.stream)

    self._jobs = [job(i) for i in range(self._n_answers)]
    self._service.scheduler.submit(self._jobs)

  def cancel(self) -> None:
    """Cancels the rows; the scheduler drops them before its next chunk."""
    for job in self._jobs:
      job.cancelled = True

  async def _pieces(self) -> AsyncIterator[tuple[int, Piece]]:
    """Yields pieces of all answers as they arrive; raises HttpError."""
    n_left = self._n_answers
    try:
      while n_left:
        i, piece = await self._arrived.get()
        if isinstance(piece, HttpError):
          raise piece
        n_left -= piece.finish_reason is not None
        yield i, piece
    finally:
      self.cancel()

  async def whole(self) -> dict[str, Any]:
    """Waits for all answers, and returns the whole JSON."""
    pieces: list[list[Piece]] = [[] for _ in range(self._n_answers)]
    async for i, piece in self._pieces():
      pieces[i].append(piece)
    return self._writer.whole(pieces, self._n_prompt_tokens)

  async def events(self) -> AsyncIterator[dict[str, Any]]:
    """Yields the events of a stream; an error is its last event."""
    n_tokens = [0] * self._n_answers
    try:
      async for i, piece in self._pieces():
        n_tokens[i] = piece.n_tokens
        if piece.text or piece.tokens or piece.finish_reason:
          yield self._writer.event(i, piece)
      if self.asked.include_usage:
        total = sum(n_tokens)
        yield self._writer.usage_event(self._n_prompt_tokens, total)
    except HttpError as error:
      yield error.body()
