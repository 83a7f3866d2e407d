"""Workers meet before they train: who is missing is named, and waiting ends.

The chief listens at its own address until every other worker has sent its
cluster and its place in it; then it tells all to go on, and leaves the port to
TensorFlow. TensorFlow itself would wait without a message, and for ever where
the clusters of two workers differ.

A worker sends a line, {"addresses": [...], "worker": 1}, and is answered by
another: "go", or what is wrong.
"""

import contextlib
import json
import select
import socket
import time
from collections.abc import Callable

from minigpt.errors import InputError, UsageError
from minigpt.training.cluster import Cluster

PATIENCE = 600.0  # Seconds to wait for others.
_BETWEEN_LINES = 30.0  # Seconds.
_POLL = 0.2  # Seconds between looks at the clock.
_LONGEST = 1 << 20  # Bytes of a line.
_GO = b'go'


def meet(
  cluster: Cluster,
  say: Callable[[str], None],
  patience: float = PATIENCE,
  between_lines: float = _BETWEEN_LINES,
) -> None:
  """Returns when all workers of the cluster have come.

  Args:
    cluster: what TF_CONFIG told this worker.
    say: prints whom this worker waits for.
    patience: seconds to wait.
    between_lines: seconds between two of these lines.

  Raises:
    UsageError: the cluster of another worker differs, or its place is the same.
    InputError: a worker has not come, or the chief cannot be reached.
  """
  waiting = _Waiting(say, patience, between_lines)
  if cluster.worker == 0:
    _receive(cluster, waiting)
  else:
    _report(cluster, waiting)


class _Waiting:
  """The clock of a worker that waits."""

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
    """Says now and then what is missing; raises InputError at the end."""
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
  """Lets all others go once they are here."""
  others = range(1, len(cluster.addresses))
  arrived: dict[int, socket.socket] = {}
  with contextlib.ExitStack() as stack:
    server = stack.enter_context(_listen(cluster.addresses[0]))
    # One that came and was then started again is missing: had it counted, the
    # chief would leave before its second life could reach it.
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
  """Returns who has come; None for somebody who is no worker at all.

  Raises:
    UsageError: what the worker was told cannot be true together with what this
      one was.
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
  """Tells whether a worker still waits: one that was restarted comes again."""
  try:
    readable = select.select([connection], [], [], 0)[0]
    return not readable or bool(connection.recv(1, socket.MSG_PEEK))
  except OSError:
    return False


def _report(cluster: Cluster, waiting: _Waiting) -> None:
  """Tells the chief who this is, and waits for its answer."""
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
  """Returns the chief's answer; nothing where it has gone."""
  while not select.select([link], [], [], _POLL)[0]:
    waiting.check(missing)
  link.settimeout(5)
  return _line(link)


def _line(link: socket.socket) -> bytes:
  with link.makefile('rb') as file:
    return file.readline(_LONGEST).rstrip(b'\n')


def _answer(connection: socket.socket, line: bytes) -> None:
  with contextlib.suppress(OSError):  # It has gone, and will come again.
    connection.sendall(line + b'\n')


def _split(address: str) -> tuple[str, int]:
  host, _, port = address.rpartition(':')
  return host.strip('[]'), int(port)
