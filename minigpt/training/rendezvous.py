"""Rendezvous: workers wait for each other before TensorFlow starts.

TensorFlow itself would wait without a message, and for ever if two workers have
different clusters in TF_CONFIG. So the chief first listens at its own address
until every other worker has sent its cluster and its index. Then it tells all
to go on and frees the port for TensorFlow. Meanwhile each worker prints whom it
waits for, and gives up after a time.

A worker sends one line, {"addresses": [...], "worker": 1}. The chief answers
with one line: "go", or an error message.
"""

import contextlib
import json
import select
import socket
import time
from collections.abc import Callable

from minigpt.errors import InputError, UsageError
from minigpt.training.cluster import Cluster

PATIENCE = 600.0  # Seconds to wait for other workers.
_BETWEEN_LINES = 30.0  # Seconds between two messages.
_POLL = 0.2  # Seconds.
_LONGEST = 1 << 20  # Bytes of a line in the protocol.
_GO = b'go'


def meet(
  cluster: Cluster,
  say: Callable[[str], None],
  patience: float = PATIENCE,
  between_lines: float = _BETWEEN_LINES,
) -> None:
  """Waits until all workers of the cluster are ready.

  Args:
    cluster: the workers, as TF_CONFIG names them to this one.
    say: prints the missing workers.
    patience: seconds to wait.
    between_lines: seconds between two such messages.

  Raises:
    UsageError: another worker has a different cluster, or the same index.
    InputError: a worker is missing, or the chief cannot be reached.
  """
  waiting = _Waiting(say, patience, between_lines)
  if cluster.worker == 0:
    _receive(cluster, waiting)
  else:
    _report(cluster, waiting)


class _Waiting:
  """Times the wait: prints messages, and ends it after `patience` seconds."""

  def __init__(
    self, say: Callable[[str], None], patience: float, between_lines: float
  ):
    now = time.monotonic()
    self._say = say
    self._patience = patience
    self._between_lines = between_lines
    self._ends = now + patience
    self._line_due = now + between_lines

  def check(self, missing: str) -> None:
    """Prints what is missing, now and then; raises InputError at the end."""
    now = time.monotonic()
    if now >= self._ends:
      raise InputError(
        f'{missing} did not come within {self._patience:,.0f} s; start all '
        'workers, and check that TF_CONFIG names addresses that they can reach'
      )
    if now >= self._line_due:
      self._say(f'waiting for {missing}')
      self._line_due = now + self._between_lines


def _name(cluster: Cluster, worker: int) -> str:
  return f'worker {worker} ({cluster.addresses[worker]})'


def _receive(cluster: Cluster, waiting: _Waiting) -> None:
  """Waits for all other workers, then lets them go on."""
  others = range(1, len(cluster.addresses))
  arrived: dict[int, socket.socket] = {}
  with contextlib.ExitStack() as stack:
    server = stack.enter_context(_listen(cluster.addresses[0]))
    # A worker whose connection is closed has been restarted and will connect
    # again. It counts as missing, or the chief would leave before it does.
    while missing := [
      i for i in others if i not in arrived or not _is_there(arrived[i])
    ]:
      waiting.check(', '.join(_name(cluster, i) for i in missing))
      if not select.select([server], [], [], _POLL)[0]:
        continue
      connection = stack.enter_context(server.accept()[0])
      try:
        worker = _hello(connection, cluster, arrived)
      except UsageError as error:
        for each in (*arrived.values(), connection):
          _answer(each, str(error).encode())
        raise
      if worker:
        arrived[worker] = connection
    for connection in arrived.values():
      _answer(connection, _GO)


def _listen(address: str) -> socket.socket:
  _, port = _split(address)
  try:
    if socket.has_dualstack_ipv6():
      return socket.create_server(
        ('', port), family=socket.AF_INET6, dualstack_ipv6=True
      )
    return socket.create_server(('', port))
  except OSError as error:
    raise InputError(
      f'{address}: port {port} cannot be opened ({error.strerror})'
    ) from None


def _hello(
  connection: socket.socket,
  cluster: Cluster,
  arrived: dict[int, socket.socket],
) -> int | None:
  """Returns the index of the worker that connects; None if it is no worker.

  Raises:
    UsageError: the worker's TF_CONFIG contradicts this one's.
  """
  connection.settimeout(5)
  try:
    fields = json.loads(_line(connection))
    addresses, worker = fields['addresses'], fields['worker']
  except (OSError, KeyError, TypeError, ValueError, RecursionError):
    return None
  problem = None
  if addresses != list(cluster.addresses):
    problem = (
      'two workers have different clusters in TF_CONFIG: '
      f'{list(cluster.addresses)} and {str(addresses)[:1000]}'
    )
  elif worker == 0 or (worker in arrived and _is_there(arrived[worker])):
    problem = f'two workers have the same place, {worker}, in TF_CONFIG'
  elif type(worker) is not int or not 0 < worker < len(cluster.addresses):
    return None
  if problem:
    raise UsageError(problem)
  return worker


def _is_there(connection: socket.socket) -> bool:
  """Tells whether a worker still waits at this connection."""
  try:
    readable = select.select([connection], [], [], 0)[0]
    return not readable or bool(connection.recv(1, socket.MSG_PEEK))
  except OSError:
    return False


def _report(cluster: Cluster, waiting: _Waiting) -> None:
  """Sends this worker's index to the chief, and waits for the answer."""
  fields = {'addresses': cluster.addresses, 'worker': cluster.worker}
  hello = json.dumps(fields).encode() + b'\n'
  chief, reason = _name(cluster, 0), ''
  while True:
    waiting.check(f'{chief}{reason}')
    try:
      with socket.create_connection(_split(cluster.addresses[0]), 5) as link:
        link.sendall(hello)
        answer = _await_line(link, waiting, f'{chief} and others')
    except OSError as error:
      answer, reason = b'', f' ({error.strerror or error})'
    if answer == _GO:
      return
    if answer:
      raise UsageError(answer.decode(errors='replace'))
    time.sleep(_POLL)


def _await_line(link: socket.socket, waiting: _Waiting, missing: str) -> bytes:
  """Returns the chief's answer; empty if the chief has closed the link."""
  while not select.select([link], [], [], _POLL)[0]:
    waiting.check(missing)
  link.settimeout(5)
  return _line(link)


def _line(link: socket.socket) -> bytes:
  with link.makefile('rb') as file:
    return file.readline(_LONGEST).rstrip(b'\n')


def _answer(connection: socket.socket, line: bytes) -> None:
  with contextlib.suppress(OSError):  # A closed worker will connect again.
    connection.sendall(line + b'\n')


def _split(address: str) -> tuple[str, int]:
  host, _, port = address.rpartition(':')
  return host.strip('[]'), int(port)
