"""Endpoints: objects that run the signatures of an exported model.

An endpoint is a server behind gRPC or REST, or the SavedModel itself in some
process. All have the same interface, so checks and clients work with each.
"""

import contextlib
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np
import tensorflow as tf
from google.protobuf import json_format, message

from minigpt.errors import InputError, UsageError

Arrays = dict[str, np.ndarray]  # text is an object array of bytes
_PREDICT = 'tensorflow/serving/predict'
_LONGEST_WAIT = 30 * 24 * 3600.0  # Seconds; far more overflow socket timers.
# Errors that reading malformed data can raise.
_UNREADABLE = (
  ArithmeticError,
  AttributeError,
  LookupError,
  MemoryError,
  RecursionError,
  TypeError,
  ValueError,
  json_format.Error,
  message.Error,
)


class EndpointError(InputError):
  """Reports that a request got no answer.

  Attributes:
    kind: name of the gRPC status code, as in 'INVALID_ARGUMENT'; 'MALFORMED'
      for an answer that cannot be read, 'CRASHED' for a process that died.
    message: in one line.
  """

  def __init__(self, kind: str, message: str):
    self.kind = kind
    self.message = ' '.join(message.split())
    super().__init__(f'{kind}: {self.message}')


@contextlib.contextmanager
def malformed(what: str) -> Iterator[None]:
  """Turns errors while reading an answer into an EndpointError.

  Args:
    what: the beginning of its message, as in 'no answer of generate'.
  """
  try:
    yield
  except _UNREADABLE as error:
    raise EndpointError('MALFORMED', f'{what}: {error!r:.150}') from None


def check_timeout(timeout: float) -> float:
  """Returns the timeout in seconds, or raises UsageError."""
  if not 0 < timeout <= _LONGEST_WAIT:
    raise UsageError(
      f'timeout={timeout}: it must be greater than 0 and at most '
      f'{_LONGEST_WAIT:.0f} seconds'
    )
  return timeout


class Deadline:
  """The time by which a call must end, with all of its requests."""

  def __init__(self, timeout: float):
    """Sets the deadline `timeout` seconds from now."""
    self._timeout = timeout
    self._end = time.monotonic() + timeout

  def left(self) -> float:
    """Returns the seconds left, or raises EndpointError."""
    seconds = self._end - time.monotonic()
    if seconds <= 0:
      raise self.error()
    return seconds

  def error(self) -> EndpointError:
    """Returns the error for a deadline that has passed."""
    message = f'no answer within {self._timeout:g} s'
    return EndpointError('DEADLINE_EXCEEDED', message)


class Signature(NamedTuple):
  """The names, dtypes and shapes of a signature's tensors."""

  inputs: dict[str, tf.TensorSpec]
  outputs: dict[str, tf.TensorSpec]


class Endpoint(Protocol):
  """Runs the signatures of a model."""

  def signatures(self) -> dict[str, Signature]:
    """Returns the signatures, or raises EndpointError."""
    ...

  def predict(self, signature: str, inputs: Mapping[str, Any]) -> Arrays:
    """Runs one signature.

    Args:
      signature: name of the signature.
      inputs: arrays or nested lists by name; text as str or bytes.

    Raises:
      EndpointError: there is no answer, or the request is refused.
    """
    ...

  def close(self) -> None:
    """Releases the resources of the endpoint."""
    ...


def read_signatures(definitions: Mapping[str, Any]) -> dict[str, Signature]:
  """Reads the SignatureDefs of a SavedModel, without internal ones."""
  return {
    name: Signature(_specs(each.inputs), _specs(each.outputs))
    for name, each in sorted(definitions.items())
    if each.method_name == _PREDICT
  }


def _specs(tensors: Mapping[str, Any]) -> dict[str, tf.TensorSpec]:
  return {
    name: tf.TensorSpec(tf.TensorShape(info.tensor_shape), info.dtype, name)
    for name, info in sorted(tensors.items())
  }


def to_arrays(
  name: str, signature: Signature, inputs: Mapping[str, Any]
) -> Arrays:
  """Converts each input to the dtype of the signature.

  Raises:
    UsageError: an input is missing, unknown, or of the wrong type.
  """
  # The server would refuse both cases too, with a less clear message.
  if set(inputs) != set(signature.inputs):
    raise UsageError(
      f'signature {name} takes {", ".join(signature.inputs)}; '
      f'given were {", ".join(sorted(inputs)) or "none"}'
    )
  return {
    key: _to_array(f'{name}.{key}', value, signature.inputs[key].dtype)
    for key, value in inputs.items()
  }


def _to_array(name: str, value: Any, dtype: tf.DType) -> np.ndarray:
  try:
    if dtype != tf.string:
      return to_dtype(np.asarray(value), dtype)
    return np.frompyfunc(_to_bytes, 1, 1)(np.asarray(value, object))
  except (TypeError, ValueError, OverflowError) as error:
    raise UsageError(f'{name} must be {dtype.name}: {error}') from None


def to_dtype(array: np.ndarray, dtype: tf.DType) -> np.ndarray:
  """Converts numbers to a dtype without losing information.

  Raises:
    TypeError: a value is of another kind, such as text, or 1.5 for integers.
    OverflowError: a value is beyond the dtype's range.
  """
  kinds = 'iuf' if dtype.is_floating else 'iu' if dtype.is_integer else 'b'
  # NumPy makes floats of an empty list.
  if array.size and array.dtype.kind not in kinds:
    raise TypeError(f'{array.ravel()[0]!r:.60} is of another type')
  with np.errstate(over='ignore'):
    converted = array.astype(dtype.as_numpy_dtype)
  is_beyond = (
    np.isinf(converted) & ~np.isinf(array)
    if dtype.is_floating
    else converted != array
  )
  if is_beyond.any():
    raise OverflowError(f'{array[is_beyond].ravel()[0]} is beyond its range')
  return converted


def _to_bytes(text: str | bytes) -> bytes:
  if not isinstance(text, str | bytes):
    raise TypeError(f'{text!r:.60} is no text')
  return text.encode() if isinstance(text, str) else text


def pick(signatures: Mapping[str, Signature], name: str) -> Signature:
  """Returns a signature by name, or raises EndpointError."""
  if name not in signatures:
    raise EndpointError(
      'NOT_FOUND',
      f'no signature {name!r}; the model has {", ".join(signatures)}',
    )
  return signatures[name]


def count_rows(signature: Signature, arrays: Arrays) -> int | None:
  """Returns the number of rows of a request, or None if it is unknown."""
  for name, spec in signature.inputs.items():
    if spec.shape.rank and spec.shape[0] is None and arrays[name].ndim:
      return len(arrays[name])
  return None


def check_shape(
  spec: tf.TensorSpec, shape: Sequence[int], n_rows: int | None
) -> None:
  """Compares the shape of an output with its signature and the request.

  Raises:
    ValueError: the shape differs, or has another number of rows.
  """
  if not spec.shape.is_compatible_with(shape):
    raise ValueError(f'{spec.name} has the shape {list(shape)}')
  is_batch = spec.shape.rank and spec.shape[0] is None
  if is_batch and n_rows is not None and shape[0] != n_rows:
    raise ValueError(f'{spec.name} has {shape[0]} rows for {n_rows}')
