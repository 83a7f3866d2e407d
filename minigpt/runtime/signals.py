"""Handles signals that ask a process to stop, even during a native call."""

import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

# Signals of people, service managers and batch systems, as far as the platform
# has them. Batch systems send SIGUSR1, SIGUSR2 or SIGXCPU near a job's end.
_NAMES = 'SIGTERM SIGINT SIGHUP SIGQUIT SIGUSR1 SIGUSR2 SIGXCPU'
STOPPING = tuple(
  getattr(signal, name) for name in _NAMES.split() if hasattr(signal, name)
)
# Seconds in which further signals count as the same request: a launcher passes
# on a signal that its worker has already received as a member of the process
# group, and service managers send SIGHUP after SIGTERM.
SAME_REQUEST = 2.0


class StopRequest:
  """Sets `number` at the first signal inside the context; exits at a second.

  Python runs signal handlers only between two bytecodes, and merges signals
  that arrive before; here, a thread reads each signal from Python's wake-up
  pipe at once. Signals that the process ignores from its start (nohup) stay
  ignored.

  Attributes:
    number: the signal that was received, or 0.
  """

  def __init__(
    self, notice: str, before_exit: Callable[[], object] = lambda: None
  ):
    """Configures the reaction to signals.

    Args:
      notice: the line to print at the first signal.
      before_exit: is called before a second signal exits.
    """
    self.number = 0
    self._notice = notice
    self._before_exit = before_exit
    self._exits_from = 0.0  # From this time on, another signal exits.
    self._replaced: dict[int, Any] = {}

  def __enter__(self) -> 'StopRequest':
    self._reader, self._writer = os.pipe()
    os.set_blocking(self._writer, False)
    self._previous_fd = signal.set_wakeup_fd(self._writer)
    self._thread = threading.Thread(target=self._listen, daemon=True)
    self._thread.start()
    for number in STOPPING:
      if signal.getsignal(number) is not signal.SIG_IGN:
        # Python writes only signals with a handler to the wake-up pipe.
        self._replaced[number] = signal.signal(number, lambda *_: None)
    return self

  def __exit__(self, *_: object) -> None:
    for number, handler in self._replaced.items():
      signal.signal(number, handler)
    signal.set_wakeup_fd(self._previous_fd)
    os.close(self._writer)  # Ends the thread: it reads the end of the file.
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
