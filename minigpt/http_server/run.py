"""Runs the application on a port, until a signal asks it to stop.

Only this module imports Uvicorn.
"""

import json
import signal
import socket

import h11
import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from minigpt.errors import InputError
from minigpt.http_server import app
from minigpt.http_server.errors import HttpError
from minigpt.http_server.service import Service


def listen(host: str, port: int) -> socket.socket:
  """Returns a listening socket; port 0 chooses a free port.

  Raises:
    InputError: the address cannot be used.
  """
  try:
    family = socket.AF_INET6 if ':' in host else socket.AF_INET
    listening = socket.create_server((host, port), family=family, backlog=512)
  except OSError as error:
    reason = error.strerror or error
    raise InputError(f'{host}:{port} cannot be used ({reason})') from None
  # Connections inherit this option. Without it, the second packet of an answer
  # waits until the client acknowledges the first, for 40 ms. asyncio sets it
  # only for sockets that were created with an explicit protocol.
  listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
  return listening


def server(
  service: Service, max_connections: int, grace_seconds: int
) -> uvicorn.Server:
  """Returns the server, for `run`.

  Args:
    service: answers the requests; it is closed at the end.
    max_connections: further requests get 503.
    grace_seconds: time for unfinished answers at the end.
  """

  def is_full() -> bool:
    state = serving.server_state
    return max(len(state.connections), len(state.tasks)) > max_connections

  serving = uvicorn.Server(
    uvicorn.Config(
      app.limited(app.make(service), is_full),
      http=_Protocol,
      ws='none',
      loop='asyncio',
      lifespan='on',
      log_level='warning',
      access_log=False,
      server_header=False,
      timeout_graceful_shutdown=grace_seconds,
    )
  )
  return serving


class _Protocol(H11Protocol):
  """HTTP/1.1 whose error for malformed requests has the API's format."""

  def send_400_response(self, msg: str) -> None:
    body = json.dumps(HttpError(400, msg).body()).encode()
    headers = {
      'content-type': 'application/json',
      'content-length': str(len(body)),
      'connection': 'close',
    }
    for event in (
      h11.Response(status_code=400, headers=[*headers.items()]),
      h11.Data(data=body),
      h11.EndOfMessage(),
    ):
      self.transport.write(self.conn.send(event))
    self.transport.close()


def run(serving: uvicorn.Server, listening: socket.socket) -> None:
  """Serves until SIGTERM or SIGINT, then finishes the answers in progress."""
  # Uvicorn raises the signal again at the end; ignore it to exit with 0.
  for number in (signal.SIGTERM, signal.SIGINT):
    signal.signal(number, lambda *_: None)
  serving.run(sockets=[listening])
