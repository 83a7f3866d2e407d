"""Signals that ask a program to stop, heard even inside a long native call."""

import os
import signal
import sys
import threading

STOPPING = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


class StopRequest:
  """Within `with`, the first signal sets `number`; a second ends the process.

  Python runs its own handlers only between two bytecodes, and coalesces what
  arrives meanwhile; a thread that reads the wake-up pipe sees each signal at
  once. Signals that the process was started to ignore (nohup) stay ignored.
  """

  def __init__(self, notice: str):
    self.number = 0
    self._notice = notice
    self._replaced = {}

  def __enter__(self) -> 'StopRequest':
    self._reader, self._writer = os.pipe()
    os.set_blocking(self._writer, False)
    self._former_fd = signal.set_wakeup_fd(self._writer)
    self._thread = threading.Thread(target=self._listen, daemon=True)
    self._thread.start()
    for number in STOPPING:
      if signal.getsignal(number) is not signal.SIG_IGN:
        self._replaced[number] = signal.signal(number, lambda *_: None)
    return self

  def __exit__(self, *_) -> None:
    for number, handler in self._replaced.items():
      signal.signal(number, handler)
    signal.set_wakeup_fd(self._former_fd)
    os.close(self._writer)
    self._thread.join()
    os.close(self._reader)

  def _listen(self) -> None:
    while byte := os.read(self._reader, 1):
      if byte[0] in STOPPING and self.number:
        os._exit(128 + byte[0])
      elif byte[0] in STOPPING:
        self.number = byte[0]
        print(self._notice, file=sys.stderr, flush=True)
