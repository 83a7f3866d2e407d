"""What the routes do, without any HTTP."""

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

_MAX_INPUTS = 64  # Texts of one request for embeddings.


@dataclasses.dataclass(frozen=True)
class Model:
  """What is served."""

  name: str
  endpoint: Endpoint
  tokenizer: Tokenizer
  context_length: int
  created: int = 0  # seconds since 1970
  template: Callable[[Any], str] | None = None  # of a chat
  stop: tuple[str, ...] = ()  # ends every answer without a grammar
  # By name, as the model card has them.
  grammars: protocol.Grammars = dataclasses.field(default_factory=dict)
  compiled_sizes: tuple[int, ...] = ()  # of batches; () without XLA


@dataclasses.dataclass(frozen=True)
class Bounds:
  """How large a request may be."""

  body_bytes: int = 1 << 20
  prompt_tokens: int | None = None  # None: the context
  max_tokens: int = 4096
  body_seconds: float = 30.0  # in which the body must have come


class Service:
  """Answers requests for one model."""

  def __init__(self, model: Model, limits: Limits, bounds: Bounds):
    """Starts the scheduler.

    Raises:
      EndpointError: the model was exported before there were chunks.
    """
    self.model, self.bounds = model, bounds
    self.metrics = Metrics()
    self.scheduler = Scheduler(
      model.endpoint, limits, self.metrics, model.compiled_sizes
    )
    self._embeds = asyncio.Semaphore(1)
    self._n_embeds_left = limits.max_waiting

  def close(self) -> None:
    """Finishes what was taken on."""
    self.scheduler.close()

  def check_model(self, body: dict[str, Any]) -> None:
    """Refuses another model than the one that is served."""
    name = body.get('model')
    if name != self.model.name:
      raise HttpError(
        404 if isinstance(name, str) else 400,
        f'model={name!r:.80}: this server has {self.model.name!r}',
        'model',
        'model_not_found',
      )

  def read(self, body: dict[str, Any], is_chat: bool) -> 'Generation':
    """Reads a request for text, and cuts its prompts into tokens."""
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
    """Returns the tokens of text, tokens or messages, int32 [T]."""
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
  if request.grammar:  # Which says itself where a text ends.
    return asked
  request = dataclasses.replace(request, stop=(*request.stop, *stop))
  return asked._replace(request=request)


class Generation:
  """One request for text on its way through the scheduler."""

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
    """Queues the rows, within the event loop; raises HttpError."""
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
    """Gives the rows up; the scheduler notices before its next chunk."""
    for job in self._jobs:
      job.cancelled = True

  async def _pieces(self) -> AsyncIterator[tuple[int, Piece]]:
    """Yields pieces of all answers as they come; raises HttpError."""
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
    """Returns the answer that is sent at once."""
    pieces: list[list[Piece]] = [[] for _ in range(self._n_answers)]
    async for i, piece in self._pieces():
      pieces[i].append(piece)
    return self._writer.whole(pieces, self._n_prompt_tokens)

  async def events(self) -> AsyncIterator[dict[str, Any]]:
    """Yields what a stream sends; an error is its last event."""
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
