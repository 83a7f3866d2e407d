"""An HTTP server in a thread of the test's process, on a free port."""

import contextlib
import socket
import threading
import time
from typing import NamedTuple

from minigpt.http_server import run
from minigpt.http_server.scheduler import Limits
from minigpt.http_server.service import Bounds, Model, Service
from minigpt.tokenizers.char import CharTokenizer

MODEL = 'shakespeare'


def template(messages):
  return ''.join(message['content'] for message in messages)


class Served(NamedTuple):
  url: str
  service: Service


@contextlib.contextmanager
def serve(
  endpoint,
  limits=Limits(),  # noqa: B008
  bounds=Bounds(),  # noqa: B008
  max_connections=300,
  tokenizer=None,
  context_length=12,
  **more,
):
  """Serves a model, by default the session's, until the block ends."""
  tokenizer = tokenizer or CharTokenizer('\0\n abcdefghijkl\u00df\u0301')
  model = Model(MODEL, endpoint, tokenizer, context_length, **more)
  service = Service(model, limits, bounds)
  listening = run.listen('127.0.0.1', 0)
  # A small buffer, so that an unread answer soon blocks the server.
  listening.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 14)
  server = run.server(service, max_connections, grace_seconds=10)
  thread = threading.Thread(target=server.run, args=([listening],))
  thread.start()
  try:
    yield Served(f'http://127.0.0.1:{listening.getsockname()[1]}', service)
  finally:
    server.should_exit = True
    thread.join()
    listening.close()


class Gate:
  """An endpoint whose chunks wait to be released; it records their rows."""

  def __init__(self, endpoint):
    self._endpoint = endpoint
    self.turns = threading.Semaphore(0)
    self.asked = threading.Semaphore(0)  # Released as a chunk begins to wait.
    self.batches = []

  def signatures(self):
    return self._endpoint.signatures()

  def predict(self, name, inputs):
    self.batches.append(len(inputs['ids']))
    self.asked.release()
    assert self.turns.acquire(timeout=60)
    return self._endpoint.predict(name, inputs)

  def close(self):
    pass


def wait_until(holds):
  for _ in range(6000):
    if holds():
      return
    time.sleep(0.01)
  raise AssertionError('it never came to be')
