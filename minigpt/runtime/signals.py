"""Signals that ask a process to stop, noticed also during a native call."""

import os
import signal
import sys
import threading
from typing import Any

STOPPING = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


class StopRequest:
  """Sets `number` at the first signal within `with`; exits at a second one.

  Python runs its own handlers only between two bytecodes, and merges signals
  that arrive meanwhile; a thread that reads the wake-up pipe sees each at once.
  Signals that the process was started to ignore (nohup) stay ignored.

  Attributes:
    number: the signal that was received, 0 before.
  """

  def __init__(self, notice: str):
    """Keeps the line that is printed at the first signal."""
    self.number = 0
    self._notice = notice
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
      if byte[0] in STOPPING and self.number:
        os._exit(128 + byte[0])
      elif byte[0] in STOPPING:
        self.number = byte[0]
        print(self._notice, file=sys.stderr, flush=True)
