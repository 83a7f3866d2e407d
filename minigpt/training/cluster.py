"""The workers of a run, read from TF_CONFIG."""

import json
import socket
from typing import Any, NamedTuple

from minigpt.errors import InputError, UsageError


class Cluster(NamedTuple):
  """The workers of a run by their addresses, the chief first."""

  addresses: tuple[str, ...]  # host:port
  worker: int  # index of this process in `addresses`


def read_cluster(text: str) -> Cluster | None:
  """Reads TF_CONFIG; returns None where it names fewer than two workers.

  Raises:
    UsageError: it is malformed, or has tasks other than chief and workers.
  """
  if not text:
    return None
  try:
    cluster = _cluster(json.loads(text))
  except (
    AttributeError,
    KeyError,
    TypeError,
    ValueError,
    RecursionError,
  ) as error:
    raise UsageError(
      f'TF_CONFIG is malformed ({type(error).__name__}: {error}); it looks '
      'like {"cluster": {"worker": ["host:port", ...]}, '
      '"task": {"type": "worker", "index": 0}}'
    ) from None
  return cluster if len(cluster.addresses) > 1 else None


def _cluster(fields: dict[str, Any]) -> Cluster:
  jobs, task = fields['cluster'], fields['task']
  if foreign := set(jobs) - {'chief', 'worker'}:
    raise ValueError(f'it has tasks of type {min(foreign)!r}')
  tasks = {
    (job, i): _address(address)
    for job in ('chief', 'worker')
    for i, address in enumerate(jobs.get(job, []))
  }
  if len(set(tasks.values())) < len(tasks):
    raise ValueError('two tasks have the same address')
  job, index = task['type'], task['index']
  if isinstance(index, str) and index.isdecimal():
    index = int(index)  # Shell scripts often quote the number.
  if type(index) is not int or (job, index) not in tasks:
    raise ValueError(f'no task {job} {index!r} in its cluster')
  worker = list(tasks).index((job, index))
  return Cluster(tuple(tasks.values()), worker)


def _address(text: str) -> str:
  host, _, port = text.rpartition(':')
  if not host or not 0 < int(port) < 1 << 16:
    raise ValueError(f'{text!r} is not host:port')
  return text


def check_port(address: str) -> None:
  """Raises InputError where this machine cannot listen at `address`."""
  port = int(address.rpartition(':')[2])
  with socket.socket() as probe:
    # A port is free even if closed connections still linger on it.
    probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
      probe.bind(('', port))
    except OSError as error:
      raise InputError(
        f'{address}: port {port} cannot be opened ({error.strerror}); end what '
        'uses it, or name another in TF_CONFIG'
      ) from None
