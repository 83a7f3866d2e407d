"""Signals that ask a process to stop, noticed also during a native call."""

import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

# What people, service managers and batch systems send, where the system has it:
# the user signals and SIGXCPU announce the end of a job's time.
_NAMES = 'SIGTERM SIGINT SIGHUP SIGQUIT SIGUSR1 SIGUSR2 SIGXCPU'
STOPPING = tuple(
  getattr(signal, name) for name in _NAMES.split() if hasattr(signal, name)
)
# Seconds in which further signals are the same request: one that was sent to a
# whole group reaches a worker again through its launcher, and service managers
# send SIGHUP after SIGTERM.
SAME_REQUEST = 2.0


class StopRequest:
  """Sets `number` at the first signal within `with`; exits at a second one.

  Python runs its own handlers only between two bytecodes, and merges signals
  that arrive meanwhile; a thread that reads the wake-up pipe sees each at once.
  Signals that the process was started to ignore (nohup) stay ignored.

  Attributes:
    number: the signal that was received, 0 before.
  """

  def __init__(
    self, notice: str, before_exit: Callable[[], object] = lambda: None
  ):
    """Prepares the answer to signals.

    Args:
      notice: the line that is printed at the first signal.
      before_exit: what a second signal still waits for.
    """
    self.number = 0
    self._notice = notice
    self._before_exit = before_exit
    self._exits_from = 0.0  # When a further signal is a second request.
    self._replaced: dict[int, Any] = {}

  def __enter__(self) -> 'StopRequest':
    self._reader, self._writer = os.pipe()
    os.set_blocking(self._writer, False)
    self._previous_fd = signal.set_wakeup_fd(self._writer)
    self._thread = threading.Thread(target=self._listen, daemon=True)
    self._thread.start()
    for number in STOPPING:
      if signal.getsignal(number) is not signal.SIG_IGN:
        # The wake-up pipe is written only for signals that have a handler.
        self._replaced[number] = signal.signal(number, lambda *_: None)
    return self

  def __exit__(self, *_: object) -> None:
    for number, handler in self._replaced.items():
      signal.signal(number, handler)
    signal.set_wakeup_fd(self._previous_fd)
    os.close(self._writer)  # The thread reads the end of the file, and ends.
    self._thread.join()
    os.close(self._reader)

  def _listen(self) -> None:
    while byte := os.read(self._reader, 1):
      number = byte[0]
      if number not in STOPPING:
        continue
      if not self.number:
        self._exits_from = time.monotonic() + SAME_REQUEST
        self.number = number
        print(self._notice, file=sys.stderr, flush=True)
      elif time.monotonic() >= self._exits_from:
        self._before_exit()
        os._exit(128 + number)
