"""Holds `minigpt serve` against the bare loop over chunks, then abuses it.

  python benchmarks/http_server.py --export_dir=models/shakespeare

In turns, 16 clients stream answers from a server in a process of its own, and
the same batches are continued by `chunks.predict` alone. Then come clients that
do what they should not, and thousands of requests, after which everybody must
be served as before and the server's memory must not have grown. Without
--export_dir, the model has 4 layers of 128 and random weights.
"""

import argparse
import asyncio
import contextlib
import json
import re
import signal
import socket
import string
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import programs

from minigpt import tokenizers
from minigpt.checkpoints import loading, workdir
from minigpt.config import GPTConfig
from minigpt.conformance.serving_session import ServingSession
from minigpt.generation.request import Request
from minigpt.model.params import init_params
from minigpt.serving import chunks, export, export_files
from minigpt.serving.options import Options
from minigpt.serving.versions import versions


class Server:
  """`minigpt serve` in a process of its own."""

  def __init__(self, export_dir: Path, max_batch: int):
    flags = [f'--export_dir={export_dir}', f'--max_batch={max_batch}']
    flags += ['--port=0', '--max_waiting=1024']
    self._process = subprocess.Popen(
      [sys.executable, '-m', 'minigpt', 'serve', *flags],
      stdout=subprocess.PIPE,
      text=True,
    )
    assert self._process.stdout
    found = re.search(r':(\d+)/v1', self._process.stdout.readline())
    assert found
    self.port = int(found[1])

  def megabytes(self) -> float:
    """Returns how much memory is resident."""
    text = Path(f'/proc/{self._process.pid}/status').read_text()
    found = re.search(r'VmRSS:\s*(\d+) kB', text)
    assert found
    return int(found[1]) / 1e3

  def stop(self) -> int:
    """Ends the process; returns its exit code."""
    self._process.send_signal(signal.SIGTERM)
    return self._process.wait(60)


def _post(body: bytes) -> bytes:
  head = 'POST /v1/completions HTTP/1.1\r\nHost: a\r\nContent-Length: '
  return f'{head}{len(body)}\r\n\r\n'.encode() + body


class Client:
  """A connection that is kept; it parses no more than it must."""

  def __init__(self, port: int):
    self._port = port
    self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None
    self._streams = None

  async def ask(self, body: bytes) -> tuple[int, bytes]:
    """Returns status and body of an answer, with its chunks' sizes."""
    if self._streams is None:
      self._streams = await asyncio.open_connection('127.0.0.1', self._port)
    reader, writer = self._streams
    writer.write(_post(body))
    head = (await reader.readuntil(b'\r\n\r\n')).decode().lower()
    length = re.search(r'content-length: (\d+)', head)
    if length:
      found = await reader.readexactly(int(length[1]))
    else:
      found = await reader.readuntil(b'\r\n0\r\n\r\n')
    return int(head.split()[1]), found

  def close(self) -> None:
    """Hangs up."""
    if self._streams:
      self._streams[1].close()


class Load:
  """Requests for one model."""

  def __init__(self, name: str, n_prompt: int, n_new: int, n_vocab: int):
    self.n_new, self.rng = n_new, np.random.default_rng(0)
    self._name, self._n_prompt, self._n_vocab = name, n_prompt, n_vocab

  def ids(self) -> np.ndarray:
    """Returns a prompt, int32 [T]."""
    ids = self.rng.integers(self._n_vocab, size=self._n_prompt)
    return ids.astype(np.int32)

  def body(self, **more) -> bytes:
    """Returns the JSON of a request."""
    fields = {'model': self._name, 'prompt': self.ids().tolist()}
    tokens = {'max_tokens': self.n_new, 'min_new_tokens': self.n_new}
    return json.dumps({**fields, **tokens, 'seed': 1, **more}).encode()


async def ask_all(port, load, n_requests, n_clients, **more) -> int:
  """Sends requests, so many at a time; returns how many were not answered."""
  left, n_failed = iter(range(n_requests)), 0

  async def work():
    nonlocal n_failed
    client = Client(port)
    for _ in left:
      status, body = await client.ask(load.body(**more))
      whole = b'[DONE]' in body if more.get('stream') else b'usage' in body
      n_failed += status != 200 or not whole
    client.close()

  await asyncio.gather(*(work() for _ in range(n_clients)))
  return n_failed


def bare_rate(session, load, n_rows, n_batches) -> float:
  """Returns the tokens a second of the loop over chunks alone."""
  started = time.monotonic()
  for _ in range(n_batches):
    request = Request(load.n_new, 1.0, min_new_tokens=load.n_new)
    rows = [chunks.Row(load.ids(), request) for _ in range(n_rows)]
    while not rows[0].done:
      chunks.predict(session, rows)
  return n_batches * n_rows * load.n_new / (time.monotonic() - started)


def compare(server, session, load, args) -> dict[str, Any]:
  """Returns the rates of both, taken in turns."""
  n, found, n_failed = args.requests // args.rounds, [], 0
  for turn in range(args.rounds + 1):
    bare = bare_rate(session, load, args.clients, max(n // args.clients, 1))
    started = time.monotonic()
    ask = ask_all(server.port, load, n, args.clients, stream=True)
    n_failed += asyncio.run(ask)
    served = n * load.n_new / (time.monotonic() - started)
    if turn:  # The first sets everything up.
      found.append((served, bare, served / bare))
  served, bare, share = map(list, zip(*found, strict=True))
  print(
    f'{n * args.rounds} streams, {args.clients} at a time, {n_failed} failed: '
    f'{median(served):.0f} tokens/s; bare {median(bare):.0f}; share '
    f'{median(share):.2f} ({min(share):.2f} to {max(share):.2f})'
  )
  rates = {'tokens_per_s': served, 'bare': bare, 'share': share}
  return {**rates, 'streams': n * args.rounds, 'failed': n_failed}


async def abuse(port, load) -> dict[str, Any]:
  """Does what clients should not; returns what came of it."""
  client, statuses = Client(port), {}
  for name, body in (
    ('no JSON', b'{"model": '),
    ('10 MB of prompt', load.body(prompt='a' * 10_000_000)),
    ('another type', load.body(prompt=3)),
  ):
    statuses[name] = (await client.ask(body))[0]
    print(f'{name}: status {statuses[name]}')
  n_many = await ask_all(port, load, 400, 200)
  print(f'400 requests on 200 connections: {n_many} failed')
  for _ in range(100):  # They leave in the middle of an answer.
    gone = Client(port)
    with contextlib.suppress(asyncio.TimeoutError):
      await asyncio.wait_for(gone.ask(load.body(stream=True)), 0.02)
    gone.close()
  slow = socket.create_connection(('127.0.0.1', port))
  body = load.body(stream=True, n=100)
  slow.sendall(_post(body))
  n_beside = await ask_all(port, load, 100, 16, stream=True)
  slow.close()
  print(f'after 100 killed clients, beside a slow reader: {n_beside} failed')
  return {'statuses': statuses, 'failed_then': n_many + n_beside}


def memory(server, load, args) -> list[float]:
  """Returns the server's megabytes before and while it answers many more."""
  marks = [server.megabytes()]
  for _ in range(5):
    n = args.more_requests // 5
    assert not asyncio.run(ask_all(server.port, load, n, args.clients))
    marks.append(server.megabytes())
  shown = ', '.join(f'{mark:.0f}' for mark in marks)
  print(f'memory before and while {args.more_requests} more: {shown} MB')
  return marks


def random_export(folder: Path, n_rows: int) -> Path:
  """Writes an export of a model of characters with random weights."""
  tokenizer = tokenizers.build('char', string.printable[:65])
  config = GPTConfig(65, 64, 128, 4, 4, drop_rate=0.0, bias=False)
  workdir.write(folder / 'run', config, init_params(config), tokenizer)
  options = Options(max_new_tokens_limit=64, batch_sizes=(1, n_rows))
  trained = loading.load_trained(folder / 'run')
  export.export(trained, folder / 'random', options)
  return folder / 'random'


def parse() -> argparse.Namespace:
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument('--export_dir', type=Path)
  parser.add_argument('--clients', type=int, default=16)
  parser.add_argument('--requests', type=int, default=2000)
  parser.add_argument('--rounds', type=int, default=5)
  parser.add_argument('--more_requests', type=int, default=5000)
  parser.add_argument('--prompt_length', type=int, default=40)
  parser.add_argument('--new_tokens', type=int, default=32)
  parser.add_argument('--json', help='file for the figures')
  return parser.parse_args()


def measure(export_dir: Path, args: argparse.Namespace) -> dict[str, Any]:
  """Does all of it with one server; returns what came of it."""
  version = export_dir / str(versions(export_dir)[-1])
  files = export_files.read(version)
  sizes = args.prompt_length, args.new_tokens, files.tokenizer.vocab_size
  load = Load(files.name, *sizes)
  server = Server(export_dir, args.clients)
  try:
    return {
      **compare(server, ServingSession(version), load, args),
      **asyncio.run(abuse(server.port, load)),
      'megabytes': memory(server, load, args),
      'more_requests': args.more_requests,
    }
  finally:
    print(f'exit code {server.stop()}')


def main() -> None:
  """Runs all of it, and prints what came of it."""
  args = parse()
  with tempfile.TemporaryDirectory() as folder:
    export_dir = args.export_dir or random_export(Path(folder), args.clients)
    programs.report(args.json, measure(export_dir, args))


if __name__ == '__main__':
  main()
