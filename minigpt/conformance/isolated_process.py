"""Runs an export in its own process, as an unmodified TensorFlow Serving does.

The process disables XLA, which cannot be undone, and a crash of it becomes an
error here. Requests and answers go through pipes as frames: a size, then that
many bytes.
"""

import functools
import os
import signal
import struct
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import IO, Any

import tensorflow as tf

# TensorFlow has no public name for the protocol buffer of a tensor.
from tensorflow.core.framework import tensor_pb2

from minigpt.conformance.serving_session import (
  ServingSession,
  disable_xla,
  read_saved_model,
)
from minigpt.errors import InputError
from minigpt.serving.endpoint import (
  Arrays,
  EndpointError,
  Signature,
  check_timeout,
  pick,
  read_signatures,
  to_arrays,
)

_SIZE = struct.Struct('<Q')
_PROGRAM = """
from minigpt.runtime import startup
with startup.outside_garbage_collection():
  from minigpt.conformance import isolated_process
isolated_process.main()
"""


class IsolatedProcess:
  """An endpoint: a `ServingSession` in a process of its own, without XLA.

  Attributes:
    tensorflow: version of TensorFlow in that process.
  """

  def __init__(
    self,
    export_dir: str | Path,
    timeout: float = 300.0,
    python: str = sys.executable,
  ):
    """Starts the process and waits until the export is loaded.

    Args:
      export_dir: a version of a model.
      timeout: seconds to wait for each answer.
      python: the interpreter, which may have another TensorFlow.

    Raises:
      UsageError: `timeout` is out of range.
      InputError: `export_dir` holds no SavedModel, or `python` does not start.
      EndpointError: the export does not load.
    """
    export_dir = Path(export_dir)
    self._timeout = check_timeout(timeout)
    self._lock = threading.Lock()
    definitions = read_saved_model(export_dir).signature_def
    self._signatures = read_signatures(definitions)
    self._log = tempfile.TemporaryFile()  # noqa: SIM115
    self._process = _spawn(python, export_dir, self._log)
    assert self._process.stdin and self._process.stdout  # Both are pipes.
    self._requests, self._answers = self._process.stdin, self._process.stdout
    try:
      self.tensorflow = self._receive_answer().decode()
    except BaseException:
      self.close()
      raise

  def signatures(self) -> dict[str, Signature]:
    """Returns the signatures of the SavedModel by name."""
    return self._signatures

  def predict(self, signature: str, inputs: Mapping[str, Any]) -> Arrays:
    """Runs one signature; see `Endpoint`."""
    spec = pick(self._signatures, signature)
    arrays = to_arrays(signature, spec, inputs)
    # Several threads of a load test share the pipes.
    with self._lock:
      try:
        _send(self._requests, signature.encode(), _pack(arrays))
      except OSError:
        raise self._crash_error() from None
      return _unpack(self._receive_answer())

  def close(self) -> None:
    """Ends the process."""
    self._process.kill()
    self._process.communicate()
    self._log.close()

  def _receive_answer(self) -> bytes:
    # A read of a pipe has no timeout, so kill the process instead.
    watchdog = threading.Timer(self._timeout, self._process.kill)
    watchdog.start()
    try:
      error, answer = (_receive(self._answers) for _ in range(2))
    except EOFError:
      if not watchdog.is_alive():
        raise EndpointError(
          'DEADLINE_EXCEEDED', f'no answer within {self._timeout:g} s'
        ) from None
      raise self._crash_error() from None
    finally:
      watchdog.cancel()
    if error:
      kind, _, message = error.decode('utf-8', 'replace').partition(' ')
      raise EndpointError(kind, message)
    return answer

  def _crash_error(self) -> EndpointError:
    """Returns an error with the exit status and the last line of the log."""
    code = self._process.wait()
    how = signal.Signals(-code).name if code < 0 else f'exit code {code}'
    self._log.seek(0)
    last = self._log.read().decode('utf-8', 'replace').strip().splitlines()
    printed = f': {last[-1]:.300}' if last else ''
    return EndpointError('CRASHED', f'the process ended with {how}{printed}')


def _spawn(python: str, export_dir: Path, log: IO[bytes]) -> subprocess.Popen:
  root = Path(__file__).parents[2]
  try:
    return subprocess.Popen(
      [python, '-c', _PROGRAM, str(export_dir.resolve())],
      stdin=subprocess.PIPE,
      stdout=subprocess.PIPE,
      stderr=log,
      env={**os.environ, 'PYTHONPATH': str(root), 'TF_CPP_MIN_LOG_LEVEL': '2'},
    )
  except OSError as error:
    raise InputError(f'{python} cannot be started ({error.strerror})') from None


def _send(stream: IO[bytes], *frames: bytes) -> None:
  for frame in frames:
    stream.write(_SIZE.pack(len(frame)) + frame)
  stream.flush()


def _receive(stream: IO[bytes]) -> bytes:
  """Reads a frame, or raises EOFError if the other side has ended."""
  (size,) = _SIZE.unpack(_read_exactly(stream, _SIZE.size))
  return _read_exactly(stream, size)


def _read_exactly(stream: IO[bytes], size: int) -> bytes:
  data = stream.read(size)
  if len(data) < size:
    raise EOFError
  return data


def _pack(arrays: Arrays) -> bytes:
  """Serializes named arrays, with `tf.train.Features` as the container."""
  message = tf.train.Features()
  for name, array in arrays.items():
    proto = tf.make_tensor_proto(array).SerializeToString()
    message.feature[name].bytes_list.value.append(proto)
  return message.SerializeToString()


def _unpack(data: bytes) -> Arrays:
  return {
    name: tf.make_ndarray(
      tensor_pb2.TensorProto.FromString(feature.bytes_list.value[0])
    )
    for name, feature in tf.train.Features.FromString(data).feature.items()
  }


def _serve(export_dir: str, requests: IO[bytes], answers: IO[bytes]) -> None:
  """Loads the export, then answers requests until the pipe is closed."""
  disable_xla()
  session: ServingSession | None = None

  def load() -> bytes:
    nonlocal session
    session = ServingSession(export_dir)
    return tf.__version__.encode()

  def predict(name: bytes, data: bytes) -> bytes:
    assert session is not None
    return _pack(session.predict(name.decode(), _unpack(data)))

  _reply(answers, load)
  while session:
    try:
      request = _receive(requests), _receive(requests)
    except EOFError:
      return
    _reply(answers, functools.partial(predict, *request))


def _reply(answers: IO[bytes], compute: Callable[[], bytes]) -> None:
  """Sends what `compute` returns, or the error that it raises."""
  try:
    error, answer = '', compute()
  except EndpointError as failure:
    error, answer = f'{failure.kind} {failure.message}', b''
  _send(answers, error.encode('utf-8', 'replace'), answer)


def main() -> None:
  """Serves the export that the command line names, through the pipes."""
  answers = os.fdopen(os.dup(1), 'wb')
  # TensorFlow's own output must go to the log, not between the answers.
  os.dup2(2, 1)
  _serve(sys.argv[1], sys.stdin.buffer, answers)
