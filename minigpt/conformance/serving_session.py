"""Runs a SavedModel as the stock TensorFlow Serving does, without a server.

A fresh process switches XLA off with the function that the server's `main`
calls, loads with the v1 loader and answers through `Session.run`. There
`tf.saved_model.load` would rebuild Python objects, hide faults of the graph,
and leave XLA on.

  python -m minigpt.conformance.serving_session EXPORT_DIR   # speaks the frames below on its pipes
"""

import contextlib
import ctypes
import functools
import os
import re
import signal
import struct
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO

import tensorflow as tf

# The two protocol buffers that have no public name.
from tensorflow.core.framework import tensor_pb2
from tensorflow.core.protobuf import saved_model_pb2

from minigpt.errors import InputError
from minigpt.serving.endpoint import (
  Arrays,
  EndpointError,
  Signature,
  pick,
  read_signatures,
  to_arrays,
)

_SIZE = struct.Struct('<Q')


def disable_xla() -> None:
  """What the server does unless it is told to compile; for good."""
  library = Path(tf.sysconfig.get_lib()) / 'libtensorflow_cc.so.2'
  ctypes.CDLL(str(library))['_ZN10tensorflow21DisableXlaCompilationEv']()


def read_saved_model(export_dir: Path) -> Any:
  """The MetaGraphDef that a server would load.

  Raises:
    InputError: there is none, or it cannot be read.
  """
  path = export_dir / 'saved_model.pb'
  saved = saved_model_pb2.SavedModel()
  try:
    saved.ParseFromString(path.read_bytes())
  except OSError as error:
    raise InputError(
      f'{export_dir} holds no SavedModel ({error.strerror}: saved_model.pb); '
      'write one with export.py and name its version directory'
    ) from None
  except Exception as error:  # protobuf's own, which has no public name
    raise InputError(f'{path} is no SavedModel: {error}') from None
  for graph in saved.meta_graphs:
    if 'serve' in graph.meta_info_def.tags:
      return graph
  raise InputError(f"{path} holds no graph tagged 'serve'; export it again")


class StockSession:
  """An endpoint: the export in this process, with XLA as this process has it.

  From `Session.run` on, the server's C++ does the same.
  """

  def __init__(self, export_dir: Path):
    """Raises EndpointError where the export does not load."""
    self._session = tf.compat.v1.Session(graph=tf.Graph())
    with self._session.graph.as_default(), _op_errors():
      self._definitions = tf.compat.v1.saved_model.loader.load(
        self._session, ['serve'], str(export_dir)
      ).signature_def

  def signatures(self) -> dict[str, Signature]:
    return read_signatures(self._definitions)

  def predict(self, signature: str, inputs: Mapping[str, Any]) -> Arrays:
    spec = pick(self.signatures(), signature)
    arrays = to_arrays(signature, spec, inputs)
    definition = self._definitions[signature]
    fetches = {k: v.name for k, v in definition.outputs.items()}
    feeds = {definition.inputs[k].name: v for k, v in arrays.items()}
    with _op_errors():
      return self._session.run(fetches, feeds)

  def close(self) -> None:
    self._session.close()


@contextlib.contextmanager
def _op_errors() -> Iterator[None]:
  """TensorFlow's errors as an endpoint's."""
  try:
    yield
  except tf.errors.OpError as error:
    raise EndpointError(_kind(error), error.message) from None
  except (OSError, TypeError, ValueError) as error:
    # What Python refuses before C++ sees it: shapes, names, files.
    raise EndpointError('INVALID_ARGUMENT', str(error)) from None


def _kind(error: tf.errors.OpError) -> str:
  """InvalidArgumentError -> INVALID_ARGUMENT."""
  name = type(error).__name__.removesuffix('Error')
  return re.sub('(?<=[a-z])(?=[A-Z])', '_', name).upper()


class StockProcess:
  """An endpoint: a `StockSession` in a process of its own, without XLA."""

  def __init__(self, export_dir: Path, timeout: float = 300.0):
    """Raises EndpointError where the export does not load.

    Args:
      timeout: seconds to wait for an answer.
    """
    self._timeout = timeout
    self._lock = threading.Lock()
    self._signatures = read_signatures(
      read_saved_model(export_dir).signature_def
    )
    self._log = tempfile.TemporaryFile()  # noqa: SIM115
    self._process = _spawn(export_dir, self._log)
    try:
      self._answer()
    except BaseException:
      self.close()
      raise

  def signatures(self) -> dict[str, Signature]:
    return self._signatures

  def predict(self, signature: str, inputs: Mapping[str, Any]) -> Arrays:
    spec = pick(self._signatures, signature)
    arrays = to_arrays(signature, spec, inputs)
    with self._lock:
      try:
        _send(self._process.stdin, signature.encode(), _pack(arrays))
      except OSError:
        raise self._crashed() from None
      return _unpack(self._answer())

  def close(self) -> None:
    self._process.kill()
    self._process.communicate()
    self._log.close()

  def _answer(self) -> bytes:
    watchdog = threading.Timer(self._timeout, self._process.kill)
    watchdog.start()
    try:
      error, answer = (_receive(self._process.stdout) for _ in range(2))
    except EOFError:
      if not watchdog.is_alive():
        raise EndpointError(
          'DEADLINE_EXCEEDED', f'no answer within {self._timeout:g} s'
        ) from None
      raise self._crashed() from None
    finally:
      watchdog.cancel()
    if error:
      kind, _, message = error.decode('utf-8', 'replace').partition(' ')
      raise EndpointError(kind, message)
    return answer

  def _crashed(self) -> EndpointError:
    code = self._process.wait()
    how = signal.Signals(-code).name if code < 0 else f'exit code {code}'
    self._log.seek(0)
    last = self._log.read().decode('utf-8', 'replace').strip().splitlines()
    said = f': {last[-1]:.300}' if last else ''
    return EndpointError('CRASHED', f'the process ended with {how}{said}')


def _spawn(export_dir: Path, log: BinaryIO) -> subprocess.Popen:
  root = Path(__file__).parents[2]
  return subprocess.Popen(
    [sys.executable, '-m', __spec__.name, str(export_dir.resolve())],
    stdin=subprocess.PIPE,
    stdout=subprocess.PIPE,
    stderr=log,
    env={**os.environ, 'PYTHONPATH': str(root), 'TF_CPP_MIN_LOG_LEVEL': '2'},
  )


def _send(stream: BinaryIO, *frames: bytes) -> None:
  """Frames are a size, then that many bytes."""
  for frame in frames:
    stream.write(_SIZE.pack(len(frame)) + frame)
  stream.flush()


def _receive(stream: BinaryIO) -> bytes:
  """Raises EOFError where the other side is gone."""
  (size,) = _SIZE.unpack(_read(stream, _SIZE.size))
  return _read(stream, size)


def _read(stream: BinaryIO, size: int) -> bytes:
  data = stream.read(size)
  if len(data) < size:
    raise EOFError
  return data


def _pack(arrays: Arrays) -> bytes:
  """Tensors by name, in a proto that TensorFlow has for bytes by name."""
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


def _serve(export_dir: str, requests: BinaryIO, answers: BinaryIO) -> None:
  disable_xla()
  session = None

  def load() -> bytes:
    nonlocal session
    session = StockSession(Path(export_dir))
    return b''

  def predict(name: bytes, data: bytes) -> bytes:
    return _pack(session.predict(name.decode(), _unpack(data)))

  _reply(answers, load)
  while session:
    try:
      request = _receive(requests), _receive(requests)
    except EOFError:
      return
    _reply(answers, functools.partial(predict, *request))


def _reply(answers: BinaryIO, compute: Callable[[], bytes]) -> None:
  """Sends what `compute` returns, or the error that it raises."""
  try:
    error, answer = '', compute()
  except EndpointError as failure:
    error, answer = f'{failure.kind} {failure.message}', b''
  _send(answers, error.encode('utf-8', 'replace'), answer)


if __name__ == '__main__':
  _pipe = os.fdopen(os.dup(1), 'wb')
  os.dup2(2, 1)  # Whatever else is printed is no answer.
  _serve(sys.argv[1], sys.stdin.buffer, _pipe)
