"""Standard output and standard error that no reader can break.

Everything that commands print goes through here, so that none of them needs to
think of a terminal without a character, a reader like `head` that has left, or
a full disk. Works with the standard library alone.
"""

import contextlib
import errno
import io
import os
import signal
import sys
import threading
from collections.abc import Iterator

from minigpt.errors import InputError

# The reader of a pipe has left; the terminal is gone.
_NO_READER = (errno.EPIPE, errno.EIO)


def guard() -> None:
  """Replaces both streams of this process by guarded ones."""
  for name in 'stdout', 'stderr':
    stream = getattr(sys, name)
    if stream is None:  # It was closed before the process started.
      stream = open(os.devnull, 'w')  # noqa: SIM115
    if type(stream) is io.TextIOWrapper:  # What tests capture is left alone.
      setattr(sys, name, Output(stream))


class Output(io.TextIOWrapper):
  r"""A stream that shows \u1234 for what it has no character for.

  Where nobody reads it any more, a run that is training is asked to stop, so
  that it saves; any other command exits with 141, as SIGPIPE would end it. That
  is no exception of files, which would be said to be faults of other files.
  """

  def __init__(self, stream: io.TextIOWrapper) -> None:
    """Takes the place of `stream`."""
    super().__init__(
      stream.buffer,
      stream.encoding,
      'backslashreplace',
      line_buffering=stream.line_buffering,
      write_through=stream.write_through,
    )
    self._replaced = stream  # It would close the buffer when it is deleted.

  def write(self, text: str) -> int:
    """Writes text; raises InputError where it can't be."""
    with self._guarded():
      return super().write(text)
    return len(text)

  def flush(self) -> None:
    """Writes what is left in buffers; raises InputError where it can't be."""
    with self._guarded():
      super().flush()

  @contextlib.contextmanager
  def _guarded(self) -> Iterator[None]:
    try:
      yield
    except OSError as error:
      # What is left in a buffer must not fail again when Python ends.
      os.dup2(os.open(os.devnull, os.O_WRONLY), self.fileno())
      if error.errno not in _NO_READER:
        raise InputError(
          f'the output could not be written ({error.strerror})'
        ) from None
      _leave()


def _leave() -> None:
  if threading.current_thread() is not threading.main_thread():
    return
  if callable(signal.getsignal(signal.SIGTERM)):
    signal.raise_signal(signal.SIGTERM)
  else:
    raise SystemExit(128 + signal.SIGPIPE)
