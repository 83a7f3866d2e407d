"""Starts several workers of one run on this machine.

  python -m minigpt launch --workers=4 -- train --workdir=runs/a

Each worker gets a free port and its TF_CONFIG. The launcher shows the output of
the chief, and the last line of another worker's errors if that worker fails. It
forwards signals, and ends all workers when one fails. If the launcher is
killed, its workers save a checkpoint and end (on Linux).
"""

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
from types import FrameType
from typing import IO, NamedTuple

from minigpt.commands.flags import launch as flags
from minigpt.errors import UsageError
from minigpt.runtime.signals import STOPPING

# Seconds that the others get to notice that a worker is gone.
_PATIENCE = 20.0
# A worker that was told to end is killed once it has written nothing for these
# seconds. As long as it writes, it is saving a checkpoint.
_GRACE = 30.0
_PR_SET_PDEATHSIG = 1  # linux/prctl.h


class Worker(NamedTuple):
  """A process of the run."""

  process: subprocess.Popen
  errors: IO[str]  # standard error of the process; unused for the chief


def main(arguments: list[str]) -> int:
  """Starts `train` with the flags after `--`; returns its exit code."""
  n = flags.WORKERS.value
  if n is None or not arguments:
    raise UsageError('give --workers, and after -- train and its flags')
  if n < 1:
    raise UsageError(f'workers={n}: at least 1 is needed')
  program, *train_flags = arguments
  if program != 'train':
    raise UsageError(f'{program!r}: only train has workers')
  return launch([sys.executable, '-m', 'minigpt', 'train', *train_flags], n)


def launch(command: list[str], n: int) -> int:
  """Runs `command` as `n` workers; returns the exit code of the run."""
  addresses = [f'127.0.0.1:{port}' for port in free_ports(n)]
  workers: list[Worker] = []
  with contextlib.ExitStack() as stack:
    received = stack.enter_context(_forward_signals(workers))
    stack.callback(_end, workers)
    for index in range(n):
      # A file: a pipe that nobody reads would block the worker when full.
      errors = stack.enter_context(tempfile.TemporaryFile('w+'))
      workers.append(_start(command, addresses, index, errors))
    failed = _wait(workers, received)
    _end(workers)
    if failed is not None:
      print(_failure_message(failed, workers[failed]), file=sys.stderr)
  codes = [w.process.returncode for w in workers]
  # As in a shell, the exit code after a signal n is 128 + n.
  return next((code if code > 0 else 128 - code for code in codes if code), 0)


def free_ports(n: int) -> list[int]:
  """Returns different ports that no process uses at the moment."""
  with contextlib.ExitStack() as stack:
    # All are open at the same time, so the system gives no port twice.
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
  # By default, each worker would start a thread for every core.
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
    # Ctrl-C in a terminal then reaches only the launcher, which forwards it.
    start_new_session=True,
    preexec_fn=_end_with_parent(),
  )
  return Worker(process, errors)


def _end_with_parent() -> Callable[[], object] | None:
  """Returns a function by which a worker asks for SIGTERM at its parent's end.

  None where the system has no such call.
  """
  if sys.platform != 'linux':
    return None
  # Looked up before the fork; after it, few calls are safe.
  prctl = ctypes.CDLL(None).prctl
  return functools.partial(prctl, _PR_SET_PDEATHSIG, int(signal.SIGTERM))


@contextlib.contextmanager
def _forward_signals(workers: list[Worker]) -> Iterator[list[int]]:
  """Forwards signals to all workers; yields the list of received signals."""
  received = []

  def forward(number: int, _: FrameType | None) -> None:
    received.append(number)
    for worker in workers:
      worker.process.send_signal(number)

  previous = {n: signal.signal(n, forward) for n in STOPPING}
  try:
    yield received
  finally:
    for number, handler in previous.items():
      signal.signal(number, handler)


def _wait(workers: list[Worker], received: list[int]) -> int | None:
  """Waits until all workers have ended, or a while after one has failed.

  Returns:
    The index of the first worker that failed by itself, or None.
  """
  failed, deadline = None, float('inf')
  while time.monotonic() < deadline:
    codes = [w.process.poll() for w in workers]
    if None not in codes:
      deadline = 0.0
    # After a signal was forwarded, exit codes are no failures.
    bad = [i for i, code in enumerate(codes) if code]
    if bad and failed is None and not received:
      # A worker killed by a signal (a negative code) goes first: the others
      # failed because they lost it.
      failed = min(bad, key=lambda i: codes[i] or 0)
      deadline = min(deadline, time.monotonic() + _PATIENCE)
    time.sleep(0.05)
  return failed


def _end(workers: list[Worker]) -> None:
  # At SIGTERM, a worker saves a checkpoint before it ends.
  for number in (signal.SIGTERM, signal.SIGKILL):
    for worker in workers:
      if worker.process.poll() is None:
        worker.process.send_signal(number)
    _wait_while_writing([w.process for w in workers])


def _wait_while_writing(processes: list[subprocess.Popen]) -> None:
  """Waits until each process has ended, or has written nothing for a while."""
  written = dict.fromkeys(processes, -1)
  given_up_at = dict.fromkeys(processes, 0.0)

  def is_awaited(process: subprocess.Popen) -> bool:
    if process.poll() is not None:
      return False
    now_written = _written_bytes(process.pid)
    if now_written != written[process]:
      written[process] = now_written
      given_up_at[process] = time.monotonic() + _GRACE
    return time.monotonic() < given_up_at[process]

  while [process for process in processes if is_awaited(process)]:
    time.sleep(0.05)


def _written_bytes(pid: int) -> int:
  """Returns the bytes a process has written to disk; 0 if that is unknown."""
  try:
    fields = Path('/proc', str(pid), 'io').read_text().split()
    return int(fields[fields.index('write_bytes:') + 1])
  except (OSError, ValueError):
    return 0


def _failure_message(index: int, worker: Worker) -> str:
  code = worker.process.returncode
  if code < 0:
    return f'launch: worker {index} was ended by signal {-code}'
  message = f'launch: worker {index} ended with code {code}'
  worker.errors.seek(0)
  lines = worker.errors.read().strip().splitlines()
  return f'{message}: {lines[-1]}' if lines else message
