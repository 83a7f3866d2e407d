"""Something that answers the signatures of an exported model.

A server behind gRPC or REST, or the SavedModel itself in a process of its
own: whoever asks cannot tell which, and so checks and clients fit them all.
"""

import contextlib
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np
import tensorflow as tf
from google.protobuf import json_format, message

from minigpt.errors import InputError, UsageError

Arrays = dict[str, np.ndarray]  # text: an object array of bytes
_PREDICT = 'tensorflow/serving/predict'
_LONGEST_WAIT = 30 * 24 * 3600.0  # seconds; far more overflow a socket's timer
# What reading can raise, of any data.
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
  """Says that a request got no answer.

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
  """Makes an EndpointError of what reading an answer raises.

  Args:
    what: what the answer is then said to be.
  """
  try:
    yield
  except _UNREADABLE as error:
    raise EndpointError('MALFORMED', f'{what}: {error!r:.150}') from None


def check_timeout(timeout: float) -> float:
  """Returns seconds to wait, or raises UsageError."""
  if not 0 < timeout <= _LONGEST_WAIT:
    raise UsageError(
      f'timeout={timeout}: it must be greater than 0 and at most '
      f'{_LONGEST_WAIT:.0f} seconds'
    )
  return timeout


class Deadline:
  """When a call must be over, however many requests it makes."""

  def __init__(self, timeout: float):
    """Sets it so many seconds from now."""
    self._timeout = timeout
    self._end = time.monotonic() + timeout

  def left(self) -> float:
    """Returns the seconds that are left; EndpointError where none are."""
    seconds = self._end - time.monotonic()
    if seconds <= 0:
      raise self.error()
    return seconds

  def error(self) -> EndpointError:
    """Returns what says that it has passed."""
    message = f'no answer within {self._timeout:g} s'
    return EndpointError('DEADLINE_EXCEEDED', message)


class Signature(NamedTuple):
  """Names, types and shapes of a signature's tensors."""

  inputs: dict[str, tf.TensorSpec]
  outputs: dict[str, tf.TensorSpec]


class Endpoint(Protocol):
  """What answers the signatures of a model."""

  def signatures(self) -> dict[str, Signature]:
    """Returns the signatures, or raises EndpointError."""
    ...

  def predict(self, signature: str, inputs: Mapping[str, Any]) -> Arrays:
    """Runs one signature.

    Args:
      inputs: arrays, or what makes one; text as str or bytes.

    Raises:
      EndpointError: there is no answer, or it says that the request is bad.
    """
    ...

  def close(self) -> None:
    """Frees what the endpoint holds."""
    ...


def read_signatures(definitions: Mapping[str, Any]) -> dict[str, Signature]:
  """Reads the SignatureDefs of a SavedModel, but for internal ones."""
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
  """Gives each input the type that the signature asks for.

  Raises:
    UsageError: an input is missing, unknown, or of another type.
  """
  # The server would refuse both too many and too few, less clearly.
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
  """Gives numbers another type.

  Raises:
    TypeError: they are of another kind, as 1.5 is for an integer, or text.
    OverflowError: one is beyond the type's range.
  """
  kinds = 'iuf' if dtype.is_floating else 'iu' if dtype.is_integer else 'b'
  # An empty list is of no kind.
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
  """Raises EndpointError where the model has no such signature."""
  if name not in signatures:
    raise EndpointError(
      'NOT_FOUND',
      f'no signature {name!r}; the model has {", ".join(signatures)}',
    )
  return signatures[name]


def count_rows(signature: Signature, arrays: Arrays) -> int | None:
  """Returns how many rows a request has; None where nothing tells."""
  for name, spec in signature.inputs.items():
    if spec.shape.rank and spec.shape[0] is None and arrays[name].ndim:
      return len(arrays[name])
  return None


def check_shape(
  spec: tf.TensorSpec, shape: Sequence[int], n_rows: int | None
) -> None:
  """Holds the shape of an output against its signature, and the request.

  Raises:
    ValueError: it is another, or has not as many rows as were asked.
  """
  if not spec.shape.is_compatible_with(shape):
    raise ValueError(f'{spec.name} has the shape {list(shape)}')
  is_batch = spec.shape.rank and spec.shape[0] is None
  if is_batch and n_rows is not None and shape[0] != n_rows:
    raise ValueError(f'{spec.name} has {shape[0]} rows for {n_rows}')
