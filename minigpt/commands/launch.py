"""Starts several workers of one run on this machine.

  python -m minigpt.commands.launch --workers 4 -- train --workdir=runs/a flags...

Each worker gets a free loopback port and TF_CONFIG. The chief's output is
shown; what another one had to say comes out when it ends badly. Signals are
passed on, and when one worker ends badly, all are ended. When the launcher is
killed, its workers save and leave (on Linux).
"""

import argparse
import contextlib
import ctypes
import functools
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, NamedTuple

_TRAIN = Path(__file__).parents[2] / 'train.py'
_PASSED_ON = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
# Seconds in which the others notice by themselves that one is gone, and in
# which they may answer a signal after that.
_PATIENCE, _GRACE = 20.0, 10.0
_PR_SET_PDEATHSIG = 1  # linux/prctl.h


class Worker(NamedTuple):
  process: subprocess.Popen
  errors: IO[str]  # What it writes to stderr; nothing for the chief.


class _Parser(argparse.ArgumentParser):
  def error(self, message: str) -> None:
    self.exit(2, f'launch: {message}; --help shows how it is used\n')


def main(argv: list[str]) -> int:
  parser = _Parser(prog='launch', description=__doc__.splitlines()[0])
  parser.add_argument('--workers', type=int, required=True)
  parser.add_argument('command', nargs='+', help="'train' and its flags")
  options = parser.parse_args(argv)
  program, *flags = options.command
  if options.workers < 1:
    parser.error(f'--workers={options.workers}: at least 1 is needed')
  if program != 'train':
    parser.error(f'{program!r}: only train has workers')
  if not _TRAIN.is_file():
    parser.error(f'{_TRAIN} is not there; start it from a checkout')
  return launch([sys.executable, str(_TRAIN), *flags], options.workers)


def launch(command: list[str], n: int) -> int:
  """Runs `command` as `n` workers; returns the exit code of the run."""
  addresses = [f'127.0.0.1:{port}' for port in free_ports(n)]
  workers = []
  with contextlib.ExitStack() as stack:
    heard = stack.enter_context(_passing_on(workers))
    stack.callback(_end, workers)
    for index in range(n):
      errors = stack.enter_context(tempfile.TemporaryFile('w+'))
      workers.append(_start(command, addresses, index, errors))
    culprit = _wait(workers, heard)
    _end(workers)
    if culprit is not None:
      print(_told(culprit, workers[culprit]), file=sys.stderr)
  codes = [w.process.returncode for w in workers]
  # As shells do: a process that was ended by a signal n gives 128 + n.
  return next((code if code > 0 else 128 - code for code in codes if code), 0)


def free_ports(n: int) -> list[int]:
  with contextlib.ExitStack() as stack:
    sockets = [stack.enter_context(socket.socket()) for _ in range(n)]
    for each in sockets:
      each.bind(('127.0.0.1', 0))
    return [each.getsockname()[1] for each in sockets]


def _start(
  command: list[str], addresses: list[str], index: int, errors: IO[str]
) -> Worker:
  n = len(addresses)
  config = {
    'cluster': {'worker': addresses},
    'task': {'type': 'worker', 'index': index},
  }
  threads = str(max(1, (os.cpu_count() or 1) // n))
  process = subprocess.Popen(
    command,
    env={
      **os.environ,
      'TF_CONFIG': json.dumps(config),
      'TF_NUM_INTRAOP_THREADS': threads,
    },
    stdout=subprocess.DEVNULL if index else None,
    stderr=errors if index else None,
    # Ctrl-C in a terminal reaches only the launcher, which passes it on.
    start_new_session=True,
    preexec_fn=_outlived_by_none(),
  )
  return Worker(process, errors)


def _outlived_by_none() -> Callable[[], object] | None:
  """Called in a new worker: SIGTERM for it when the launcher is killed."""
  if sys.platform != 'linux':
    return None
  prctl = ctypes.CDLL(None).prctl  # Found here, as little is safe after a fork.
  return functools.partial(prctl, _PR_SET_PDEATHSIG, int(signal.SIGTERM))


@contextlib.contextmanager
def _passing_on(workers: list[Worker]) -> Iterator[list[int]]:
  """Gives each signal to all workers; yields the list of those heard."""
  heard = []

  def pass_on(number, _):
    heard.append(number)
    for worker in workers:
      worker.process.send_signal(number)

  former = {n: signal.signal(n, pass_on) for n in _PASSED_ON}
  try:
    yield heard
  finally:
    for number, handler in former.items():
      signal.signal(number, handler)


def _wait(workers: list[Worker], heard: list[int]) -> int | None:
  """Returns when all have ended, or some time after one ended badly and
  nobody had asked for it; then that one's number."""
  culprit, deadline = None, float('inf')
  while time.monotonic() < deadline:
    codes = [w.process.poll() for w in workers]
    if None not in codes:
      deadline = 0.0
    bad = [i for i, code in enumerate(codes) if code]
    if bad and culprit is None and not heard:
      # Whoever was killed comes before those who only missed it.
      culprit = min(bad, key=lambda i: codes[i])
      deadline = min(deadline, time.monotonic() + _PATIENCE)
    time.sleep(0.05)
  return culprit


def _end(workers: list[Worker]) -> None:
  for number in (signal.SIGTERM, signal.SIGKILL):
    for worker in workers:
      if worker.process.poll() is None:
        worker.process.send_signal(number)
    deadline = time.monotonic() + _GRACE
    for worker in workers:
      with contextlib.suppress(subprocess.TimeoutExpired):
        worker.process.wait(max(deadline - time.monotonic(), 0.01))


def _told(index: int, worker: Worker) -> str:
  code = worker.process.returncode
  if code < 0:
    return f'launch: worker {index} was ended by signal {-code}'
  told = f'launch: worker {index} ended with code {code}'
  worker.errors.seek(0)
  lines = worker.errors.read().strip().splitlines()
  return f'{told}: {lines[-1]}' if lines else told


if __name__ == '__main__':
  sys.exit(main(sys.argv[1:]))
