"""TensorFlow Serving's protocol buffers: requests over gRPC, warm-up records.

Only this module imports `tensorflow-serving-api` (`pip install
'minigpt[serve]'`), and only when `api` is called.
"""

import math
import types
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from minigpt.errors import InputError
from minigpt.serving.endpoint import (
  Arrays,
  Deadline,
  EndpointError,
  Signature,
  check_shape,
  count_rows,
  malformed,
  pick,
  read_signatures,
  to_arrays,
)

_SERVICE = '/tensorflow.serving.PredictionService'
# The caches in a request of `decode_step` exceed gRPC's default of 4 MB.
_OPTIONS = [
  ('grpc.max_receive_message_length', -1),
  ('grpc.max_send_message_length', -1),
]


def api() -> types.SimpleNamespace:
  """Returns the stubs, and gRPC itself.

  Raises:
    InputError: the package is not installed.
  """
  try:
    import grpc
    from tensorflow_serving.apis import (
      get_model_metadata_pb2,
      predict_pb2,
      prediction_log_pb2,
    )
  except ImportError as error:
    raise InputError(
      f'tensorflow-serving-api cannot be imported ({error}); pip install '
      "'minigpt[serve]'"
    ) from None
  return types.SimpleNamespace(
    grpc=grpc,
    PredictRequest=predict_pb2.PredictRequest,
    PredictResponse=predict_pb2.PredictResponse,
    PredictionLog=prediction_log_pb2.PredictionLog,
    MetadataRequest=get_model_metadata_pb2.GetModelMetadataRequest,
    MetadataResponse=get_model_metadata_pb2.GetModelMetadataResponse,
    SignatureDefMap=get_model_metadata_pb2.SignatureDefMap,
  )


def warmup_records(path: Path) -> Iterator[tuple[str, Arrays]]:
  """Yields the signature and the inputs of each warm-up request.

  Raises:
    InputError: the file is damaged, or a record is not a predict request.
  """
  new_log = api().PredictionLog
  try:
    for number, record in enumerate(tf.data.TFRecordDataset(str(path))):
      log = new_log.FromString(record.numpy())
      if log.WhichOneof('log_type') != 'predict_log':
        raise InputError(f'{path}: record {number} is no request to predict')
      request = log.predict_log.request
      inputs = {k: tf.make_ndarray(v) for k, v in request.inputs.items()}
      yield request.model_spec.signature_name or 'serving_default', inputs
  except InputError:
    raise
  except Exception as error:  # Protobuf's error has no public name.
    reason = ' '.join(str(error).split())
    raise InputError(f'{path} is damaged ({reason:.200})') from None


class GrpcEndpoint:
  """A model of a server, through `PredictionService`."""

  def __init__(self, target: str, model: str, timeout: float):
    self._api = api()
    self._model = model
    self._timeout = timeout
    self._signatures: dict[str, Signature] | None = None
    self._channel = self._api.grpc.insecure_channel(target, _OPTIONS)

  def signatures(self) -> dict[str, Signature]:
    """Returns the signatures; only the first call requests them."""
    return self._known_signatures(Deadline(self._timeout))

  def _known_signatures(self, deadline: Deadline) -> dict[str, Signature]:
    if self._signatures is None:
      request = self._api.MetadataRequest(metadata_field=['signature_def'])
      request.model_spec.name = self._model
      data = self._call(deadline, 'GetModelMetadata', request)
      with malformed('no signatures in the metadata'):
        answer = self._api.MetadataResponse.FromString(data)
        definitions = self._api.SignatureDefMap()
        if not answer.metadata['signature_def'].Unpack(definitions):
          raise ValueError('they are of another type')
        self._signatures = read_signatures(definitions.signature_def)
    return self._signatures

  def predict(self, signature: str, inputs: Mapping[str, Any]) -> Arrays:
    """Runs one signature; see `Endpoint`."""
    # The signature tells the dtypes; otherwise they would have to be guessed.
    deadline = Deadline(self._timeout)
    spec = pick(self._known_signatures(deadline), signature)
    request = self._api.PredictRequest()
    request.model_spec.name = self._model
    request.model_spec.signature_name = signature
    arrays = to_arrays(signature, spec, inputs)
    for name, array in arrays.items():
      request.inputs[name].CopyFrom(tf.make_tensor_proto(array))
    data = self._call(deadline, 'Predict', request)
    n_rows = count_rows(spec, arrays)
    with malformed(f'no answer of {signature}'):
      outputs = self._api.PredictResponse.FromString(data).outputs
      return {
        name: _to_array(outputs, name, output, n_rows)
        for name, output in spec.outputs.items()
      }

  def close(self) -> None:
    """Closes the channel."""
    self._channel.close()

  def _call(self, deadline: Deadline, method: str, request: Any) -> bytes:
    # Not the stub, which logs a traceback for malformed answers.
    ask = self._channel.unary_unary(f'{_SERVICE}/{method}')
    try:
      return ask(request.SerializeToString(), timeout=deadline.left())
    except self._api.grpc.RpcError as error:
      raise EndpointError(error.code().name, error.details() or '') from None


def _to_array(
  outputs: Mapping[str, Any],
  name: str,
  spec: tf.TensorSpec,
  n_rows: int | None,
) -> np.ndarray:
  """Reads an output, and checks it against the signature."""
  if name not in outputs:  # A protobuf map would create a missing entry.
    raise KeyError(name)
  proto = outputs[name]
  if proto.dtype != spec.dtype.as_datatype_enum:
    raise TypeError(f'{name} is of type {proto.dtype}')
  shape = [dim.size for dim in proto.tensor_shape.dim]
  check_shape(spec, shape, n_rows)
  # TensorFlow repeats the last value to fill any shape, so check the number.
  n_values = _count_values(proto, spec.dtype)
  if n_values != math.prod(shape):
    raise ValueError(f'{name} has {n_values} values for the shape {shape}')
  return tf.make_ndarray(proto)


def _count_values(proto: Any, dtype: tf.DType) -> int:
  if proto.tensor_content and dtype != tf.string:
    return len(proto.tensor_content) // dtype.size
  fields = (f.name for f in proto.DESCRIPTOR.fields)
  return sum(len(getattr(proto, f)) for f in fields if f.endswith('_val'))
