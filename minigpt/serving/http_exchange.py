"""One HTTP request that is over within its time, with any server.

A socket's timeout is for each packet, and looking up a name has none. So a
thread of its own asks, and is given up when the time is over.
"""

import contextlib
import http.client
import queue
import socket
import threading

from minigpt.serving.endpoint import Deadline, EndpointError

_PIECE = 1 << 20  # bytes


def exchange(
  target: str,
  deadline: Deadline,
  method: str,
  path: str,
  body: bytes | None = None,
) -> tuple[int, bytes]:
  """Returns the status and the body of an answer.

  Args:
    target: 'host:port'.
    deadline: by which the answer's last byte must have come.
    method: of HTTP, as in 'GET'.
    path: of the resource.
    body: of the request.

  Raises:
    EndpointError: there is no answer, or what comes is no HTTP.
  """
  connection = _Connection(target, timeout=deadline.left())
  outcomes: queue.SimpleQueue[tuple[int, bytes] | EndpointError]
  outcomes = queue.SimpleQueue()

  def ask() -> None:
    try:
      outcomes.put(_ask(connection, deadline, method, path, body))
    except EndpointError as error:
      outcomes.put(error)

  threading.Thread(target=ask, daemon=True).start()
  try:
    outcome = outcomes.get(timeout=deadline.left())
  except queue.Empty:
    connection.hang_up()
    outcome = deadline.error()
  if isinstance(outcome, EndpointError):
    raise outcome
  return outcome


class _Connection(http.client.HTTPConnection):
  """A connection that another thread can end."""

  _link: socket.socket | None = None  # `sock` is gone once an answer begins

  def connect(self) -> None:
    super().connect()
    self._link = self.sock

  def hang_up(self) -> None:
    """Ends it; whoever waits for a packet then gets none."""
    if self._link:
      with contextlib.suppress(OSError):
        self._link.shutdown(socket.SHUT_RDWR)


def _ask(
  connection: _Connection,
  deadline: Deadline,
  method: str,
  path: str,
  body: bytes | None,
) -> tuple[int, bytes]:
  where = f'{connection.host}:{connection.port}'
  try:
    connection.request(method, path, body)
    response = connection.getresponse()
    return response.status, _read(response)
  except TimeoutError:
    failure = deadline.error()
  except http.client.HTTPException as error:
    failure = EndpointError('MALFORMED', f'{where}: no HTTP ({error!r:.100})')
  except OSError as error:
    reason = error.strerror or error
    failure = EndpointError('UNAVAILABLE', f'{where}: {reason}')
  except UnicodeError as error:  # A name that no host can have.
    failure = EndpointError('UNAVAILABLE', f'{where}: {error!s:.100}')
  except ValueError as error:  # A chunk of negative length, for one.
    failure = EndpointError('MALFORMED', f'{where}: no HTTP ({error!r:.100})')
  finally:
    connection.close()
  raise failure


def _read(response: http.client.HTTPResponse) -> bytes:
  # Asked for everything, it would take the memory that the header claims.
  body = b''.join(iter(lambda: response.read(_PIECE), b''))
  if response.length:
    raise http.client.IncompleteRead(body, response.length)
  return body
