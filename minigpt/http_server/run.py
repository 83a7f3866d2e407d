"""Runs the application on a port, until a signal asks it to stop.

The one module that imports Uvicorn.
"""

import signal
import socket

import uvicorn

from minigpt.errors import InputError
from minigpt.http_server import app
from minigpt.http_server.service import Service


def listen(host: str, port: int) -> socket.socket:
  """Returns a socket that listens; port 0 takes a free one.

  Raises:
    InputError: the address can't be used.
  """
  try:
    family = socket.AF_INET6 if ':' in host else socket.AF_INET
    return socket.create_server((host, port), family=family, backlog=512)
  except OSError as error:
    reason = error.strerror or error
    raise InputError(f'{host}:{port} cannot be used ({reason})') from None


def server(
  service: Service, max_connections: int, grace_seconds: int
) -> uvicorn.Server:
  """Returns what `run` runs.

  Args:
    service: what answers; it is closed at the end.
    max_connections: beyond them, requests get 503.
    grace_seconds: how long answers that have begun may take at the end.
  """
  return uvicorn.Server(
    uvicorn.Config(
      app.make(service),
      http='h11',
      ws='none',
      loop='asyncio',
      lifespan='on',
      log_level='warning',
      access_log=False,
      server_header=False,
      limit_concurrency=max_connections,
      timeout_graceful_shutdown=grace_seconds,
    )
  )


def run(serving: uvicorn.Server, listening: socket.socket) -> None:
  """Serves until SIGTERM or SIGINT, then finishes what has begun."""
  # Uvicorn raises the signal again at the end, and exit code 0 is wanted.
  for number in (signal.SIGTERM, signal.SIGINT):
    signal.signal(number, lambda *_: None)
  serving.run(sockets=[listening])
