"""Robust standard output and standard error.

All output of commands goes through these streams, so that no command needs to
handle a terminal that lacks a character, a reader such as `head` that closes
the pipe, or a full disk. This module needs only the standard library.
"""

import contextlib
import errno
import io
import os
import signal
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

from minigpt.errors import InputError

# The reader of a pipe has closed it; the terminal is gone.
_NO_READER = (errno.EPIPE, errno.EIO)


def program() -> str:
  """Returns 'minigpt' or 'python -m minigpt', as this command was started."""
  # A console script appears by its path, a module by its bare name.
  script = next((a for a in sys.orig_argv[1:] if not a.startswith('-')), '')
  is_script = os.sep in script and Path(script).name == 'minigpt'
  return 'minigpt' if is_script else 'python -m minigpt'


def guard() -> None:
  """Replaces both streams of this process by guarded ones."""
  for name in 'stdout', 'stderr':
    stream = getattr(sys, name)
    if stream is None:  # The stream was closed before the process started.
      stream = open(os.devnull, 'w')  # noqa: SIM115
    if type(stream) is io.TextIOWrapper:  # Not a test's captured stream.
      setattr(sys, name, Output(stream))


class Output(io.TextIOWrapper):
  r"""A stream that prints \u1234 for characters that its encoding lacks.

  When the reader has closed the pipe, a run that is training is asked to stop,
  so that it saves; any other command exits with 141, as SIGPIPE would end it.
  No OSError is raised: callers would report it as an error of their own files.
  """

  def __init__(self, stream: io.TextIOWrapper) -> None:
    """Replaces `stream`."""
    super().__init__(
      stream.buffer,
      stream.encoding,
      'backslashreplace',
      line_buffering=stream.line_buffering,
      write_through=stream.write_through,
    )
    self._replaced = stream  # Kept: its deletion would close the buffer.

  def write(self, text: str) -> int:
    """Writes text; raises InputError if the disk is full or the like."""
    with self._guarded():
      return super().write(text)
    return len(text)

  def flush(self) -> None:
    """Flushes the stream; raises InputError if the disk is full or the like."""
    with self._guarded():
      super().flush()

  @contextlib.contextmanager
  def _guarded(self) -> Iterator[None]:
    try:
      yield
    except OSError as error:
      # The rest of the buffer must not fail again when Python exits.
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
