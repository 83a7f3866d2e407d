"""One HTTP request with a deadline that holds for any server.

A socket's timeout applies to each packet, and name resolution has none. So the
request runs in a thread of its own, which is abandoned at the deadline.
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
    deadline: by which the last byte of the answer must arrive.
    method: the HTTP method.
    path: of the resource.
    body: of the request.

  Raises:
    EndpointError: there is no answer, or it is not HTTP.
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
    """Shuts the connection down, which ends a blocking read."""
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
  except UnicodeError as error:  # An invalid host name.
    failure = EndpointError('UNAVAILABLE', f'{where}: {error!s:.100}')
  except ValueError as error:  # For example, a chunk of negative length.
    failure = EndpointError('MALFORMED', f'{where}: no HTTP ({error!r:.100})')
  finally:
    connection.close()
  raise failure


def _read(response: http.client.HTTPResponse) -> bytes:
  # In pieces: read() would allocate as much memory as the header claims.
  body = b''.join(iter(lambda: response.read(_PIECE), b''))
  if response.length:
    raise http.client.IncompleteRead(body, response.length)
  return body
