"""Something that answers the signatures of an exported model.

A server behind gRPC or REST, or the SavedModel itself in a process of its
own: whoever asks cannot tell which, and so checks and clients fit them all.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple, Protocol

import numpy as np
import tensorflow as tf

from minigpt.errors import InputError, UsageError

Arrays = dict[str, np.ndarray]  # text: an object array of bytes
_PREDICT = 'tensorflow/serving/predict'


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
      # 'same_kind' refuses 1.5 for an integer, but lets int64 be int32.
      return np.asarray(value).astype(dtype.as_numpy_dtype, casting='same_kind')
    return np.frompyfunc(_to_bytes, 1, 1)(np.asarray(value, object))
  except (TypeError, ValueError, OverflowError) as error:
    raise UsageError(f'{name} must be {dtype.name}: {error}') from None


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
