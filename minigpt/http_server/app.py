"""The routes: from HTTP requests to calls of `service`.

Only this module imports Starlette.
"""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import (
  JSONResponse,
  PlainTextResponse,
  Response,
  StreamingResponse,
)
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from minigpt.http_server import answers, protocol
from minigpt.http_server.errors import HttpError
from minigpt.http_server.service import Generation, Service

Handler = Callable[[Request], Awaitable[Response]]
_GONE = 499  # Nginx's status for a client that closed the connection.
# A body that is too large is still read, up to this many times the limit:
# clients see the answer only after they have sent the body.
_DRAINED = 32


def make(service: Service) -> Starlette:
  """Returns the application; its shutdown closes the service."""

  @contextlib.asynccontextmanager
  async def lifespan(_: Starlette) -> AsyncIterator[None]:
    yield
    await asyncio.to_thread(service.close)

  routes = Routes(service)
  table: dict[str, tuple[str, Handler]] = {
    '/v1/completions': ('POST', routes.completions),
    '/v1/chat/completions': ('POST', routes.chat_completions),
    '/v1/embeddings': ('POST', routes.embeddings),
    '/v1/models': ('GET', routes.models),
    '/v1/models/{name:path}': ('GET', routes.model),
    '/health': ('GET', routes.health),
    '/metrics': ('GET', routes.metrics),
  }
  return Starlette(
    routes=[
      Route(path, routes.counted(path, handler), methods=[method])
      for path, (method, handler) in table.items()
    ],
    exception_handlers={HTTPException: _unknown, Exception: _failed},
    lifespan=lifespan,
  )


async def _unknown(request: Request, error: Exception) -> Response:
  """Answers requests that match no route, in the API's format."""
  assert isinstance(error, HTTPException)
  message = f'{request.method} {request.url.path:.100}: {error.detail}'
  return _error(HttpError(error.status_code, message), error.headers)


async def _failed(request: Request, error: Exception) -> Response:
  """Answers after an unexpected exception; Uvicorn logs its traceback."""
  return _error(HttpError(500, f'{type(error).__name__} in the server'))


def _error(
  error: HttpError, headers: Mapping[str, str] | None = None
) -> Response:
  waits = {'Retry-After': '1'} if error.status in (429, 503) else {}
  return JSONResponse(error.body(), error.status, {**waits, **(headers or {})})


def limited(app: ASGIApp, is_full: Callable[[], bool]) -> ASGIApp:
  """Returns an application that refuses requests while `is_full`."""
  refusal = _error(
    HttpError(503, 'too many connections; try again later'),
    {'Connection': 'close'},
  )

  async def answer(scope: Scope, receive: Receive, send: Send) -> None:
    is_refused = scope['type'] == 'http' and is_full()
    await (refusal if is_refused else app)(scope, receive, send)

  return answer


class Routes:
  """The handlers of all routes."""

  def __init__(self, service: Service):
    self._service = service

  def counted(self, path: str, handler: Handler) -> Handler:
    """Wraps a handler: turns errors into answers, and counts answers."""

    async def handle(request: Request) -> Response:
      started = time.monotonic()

      def count(status: int) -> None:
        seconds = time.monotonic() - started
        self._service.metrics.count_request(path, status, seconds)

      try:
        response = await handler(request)
      except HttpError as error:
        response = _error(error)
      except ClientDisconnect:
        response = Response(status_code=_GONE)
      except Exception:
        count(500)
        raise
      if isinstance(response, _EventStream):
        response.on_end = count
      else:
        count(response.status_code)
      return response

    return handle

  async def completions(self, request: Request) -> Response:
    """Answers POST /v1/completions."""
    return await self._generate(request, is_chat=False)

  async def chat_completions(self, request: Request) -> Response:
    """Answers POST /v1/chat/completions."""
    return await self._generate(request, is_chat=True)

  async def _generate(self, request: Request, is_chat: bool) -> Response:
    body = await self._body(request)
    # In a thread: encoding a long text would block all other clients.
    generation = await asyncio.to_thread(self._service.read, body, is_chat)
    generation.start()
    if generation.asked.stream:
      return _EventStream(
        self._lines(generation), media_type='text/event-stream'
      )
    answer = await _unless_gone(request, generation.whole())
    if answer is None:
      return Response(status_code=_GONE)
    return JSONResponse(answer)

  async def _lines(self, generation: Generation) -> AsyncIterator[str]:
    """Yields the lines of a stream."""
    started, failed, first = time.monotonic(), False, True
    async with contextlib.aclosing(generation.events()) as events:  # type: ignore[type-var]
      async for event in events:
        if first:
          waited = time.monotonic() - started
          self._service.metrics.count_first_token(waited)
        first, failed = False, 'error' in event
        yield answers.event_line(event)
    if not failed:
      yield answers.event_line('[DONE]')

  async def embeddings(self, request: Request) -> Response:
    """Answers POST /v1/embeddings."""
    return JSONResponse(await self._service.embed(await self._body(request)))

  async def models(self, request: Request) -> Response:
    """Answers GET /v1/models."""
    return JSONResponse({'object': 'list', 'data': [self._model()]})

  async def model(self, request: Request) -> Response:
    """Answers GET /v1/models/NAME."""
    self._service.check_model({'model': request.path_params['name']})
    return JSONResponse(self._model())

  def _model(self) -> dict[str, Any]:
    model = self._service.model
    return answers.model_object(model.name, model.created)

  async def health(self, request: Request) -> Response:
    """Answers GET /health."""
    return JSONResponse({'status': 'ok'})

  async def metrics(self, request: Request) -> Response:
    """Answers GET /metrics."""
    counts = self._service.scheduler.counts()
    text = self._service.metrics.text(*counts)
    return PlainTextResponse(text, media_type='text/plain; version=0.0.4')

  async def _body(self, request: Request) -> dict[str, Any]:
    """Reads the body within the bounds, or raises HttpError."""
    bounds = self._service.bounds
    try:
      data = await asyncio.wait_for(
        _read(request, bounds.body_bytes), bounds.body_seconds
      )
    except asyncio.TimeoutError:
      message = f'the body did not come within {bounds.body_seconds:g} s'
      raise HttpError(408, message) from None
    return protocol.read_json(data)


async def _read(request: Request, limit: int) -> bytes:
  parts, n_bytes = [], 0
  async for part in request.stream():
    n_bytes += len(part)
    if n_bytes <= limit:
      parts.append(part)
    elif n_bytes > _DRAINED * limit:
      break
  if n_bytes > limit:
    raise HttpError(413, f'the body has more than {limit} bytes')
  return b''.join(parts)


async def _unless_gone(request: Request, answer: Awaitable[Any]) -> Any:
  """Waits for the answer; returns None if the client disconnects before."""

  async def wait_until_gone() -> None:
    while (await request.receive())['type'] != 'http.disconnect':
      pass

  gone = asyncio.ensure_future(wait_until_gone())
  found = asyncio.ensure_future(answer)
  try:
    await asyncio.wait({gone, found}, return_when=asyncio.FIRST_COMPLETED)
    return await found if found.done() else None
  finally:
    for task in (gone, found):
      task.cancel()


class _EventStream(StreamingResponse):
  """A stream that closes its source as soon as the client disconnects.

  Attributes:
    on_end: called with the status when the stream has ended.
  """

  on_end: Callable[[int], None] = staticmethod(lambda status: None)

  async def stream_response(self, send: Any) -> None:
    lines: Any = self.body_iterator
    try:
      async with contextlib.aclosing(lines):
        await super().stream_response(send)
    finally:
      self.on_end(self.status_code)
