"""Workers that meet, and workers that fail to."""

import socket
import threading
import time

import pytest

from minigpt.commands import launch
from minigpt.errors import InputError, UsageError
from minigpt.training import rendezvous
from minigpt.training.cluster import Cluster


@pytest.fixture
def addresses():
  return tuple(f'127.0.0.1:{port}' for port in launch.free_ports(3))


def meeting(*clusters, patience=20.0, longer=0.0):
  """What each of these workers says, and how it ends: None, or its error.

  Each waits `longer` seconds more than the one before it.
  """
  said, ends = [[] for _ in clusters], [None for _ in clusters]

  def one(i):
    try:
      rendezvous.meet(clusters[i], said[i].append, patience + longer * i, 0.1)
    except (InputError, UsageError) as error:
      ends[i] = error

  threads = [
    threading.Thread(target=one, args=[i]) for i in range(len(clusters))
  ]
  for thread in threads:
    thread.start()
  for thread in threads:
    thread.join(60)
    assert not thread.is_alive()
  return said, ends


def test_all_workers_meet(addresses):
  clusters = [Cluster(addresses, i) for i in (2, 0, 1)]
  assert meeting(*clusters)[1] == [None] * 3
  # The port is free again.
  assert meeting(*clusters)[1] == [None] * 3


def test_who_is_missing_is_named_and_waiting_ends(addresses):
  said, ends = meeting(
    Cluster(addresses, 0), Cluster(addresses, 1), patience=1.0, longer=2.0
  )
  missing = f'worker 2 ({addresses[2]})'
  assert f'waiting for {missing}' in said[0]
  assert str(ends[0]).startswith(f'{missing} did not come within 1 s')
  assert isinstance(ends[0], InputError)
  assert f'worker 0 ({addresses[0]})' in said[1][-1]


def test_a_missing_chief_is_named_with_the_reason(addresses):
  _, [error] = meeting(Cluster(addresses, 1), patience=0.5)
  assert isinstance(error, InputError)
  assert f'worker 0 ({addresses[0]}) (Connection refused)' in str(error)


def test_clusters_that_disagree_are_shown_to_both(addresses):
  others = (addresses[0], addresses[2], addresses[1])
  _, ends = meeting(Cluster(addresses, 0), Cluster(others, 1))
  for error in ends:
    assert isinstance(error, UsageError)
    assert 'different clusters' in str(error)
    assert addresses[2] in str(error)
    assert '\n' not in str(error)


def test_a_place_that_is_taken_twice_is_refused(addresses):
  _, ends = meeting(*(Cluster(addresses, i) for i in (0, 1, 1)))
  for error in ends:  # Also the worker that came first.
    assert isinstance(error, UsageError)
    assert 'the same place, 1,' in str(error)


@pytest.mark.parametrize(
  'content', [b'', b'GET / HTTP/1.1\n', b'{}\n', b'[' * 100_000 + b'\n', b'7\n']
)
def test_strangers_are_passed_over(addresses, content):
  host, port = rendezvous._split(addresses[0])

  def knock():
    for _ in range(100):
      try:
        with socket.create_connection((host, port)) as link:
          link.sendall(content)
          return
      except ConnectionRefusedError:
        pass

  stranger = threading.Thread(target=knock)
  stranger.start()
  assert meeting(*(Cluster(addresses, i) for i in range(3)))[1] == [None] * 3
  stranger.join()


def test_a_worker_that_is_started_again_is_welcome(addresses):
  hello = f'{{"addresses": {list(addresses)}, "worker": 1}}\n'.replace("'", '"')

  def come_and_go():
    for _ in range(1000):
      try:
        address = rendezvous._split(addresses[0])
        with socket.create_connection(address) as link:
          link.sendall(hello.encode())
          return
      except ConnectionRefusedError:
        time.sleep(0.01)

  chief = threading.Thread(
    target=rendezvous.meet, args=(Cluster(addresses, 0), print, 60.0, 5.0)
  )
  chief.start()
  come_and_go()
  # Worker 1 is gone, so worker 2 waits in vain.
  _, [end] = meeting(Cluster(addresses, 2), patience=1.0)
  assert isinstance(end, InputError)
  ends = meeting(Cluster(addresses, 1), Cluster(addresses, 2))[1]
  chief.join(60)
  assert not chief.is_alive()
  assert ends == [None, None]
