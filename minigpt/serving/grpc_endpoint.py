"""TensorFlow Serving's protocol buffers: requests over gRPC, warm-up records.

The one module that imports `tensorflow-serving-api`, and only where `api` is
called: `pip install 'minigpt[serve]'`.
"""

import functools
import types
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import tensorflow as tf

from minigpt.errors import InputError
from minigpt.serving.endpoint import (
  Arrays,
  EndpointError,
  Signature,
  pick,
  read_signatures,
  to_arrays,
)

# Cache tensors of a request for one more token exceed gRPC's 4 MB.
_OPTIONS = [
  ('grpc.max_receive_message_length', -1),
  ('grpc.max_send_message_length', -1),
]


def api() -> types.SimpleNamespace:
  """Returns the stubs, and gRPC itself.

  Raises:
    InputError: they are not installed.
  """
  try:
    import grpc
    from tensorflow_serving.apis import (
      get_model_metadata_pb2,
      predict_pb2,
      prediction_log_pb2,
      prediction_service_pb2_grpc,
    )
  except ImportError as error:
    raise InputError(
      f'tensorflow-serving-api cannot be imported ({error}); pip install '
      "'minigpt[serve]'"
    ) from None
  return types.SimpleNamespace(
    grpc=grpc,
    PredictRequest=predict_pb2.PredictRequest,
    PredictionLog=prediction_log_pb2.PredictionLog,
    MetadataRequest=get_model_metadata_pb2.GetModelMetadataRequest,
    SignatureDefMap=get_model_metadata_pb2.SignatureDefMap,
    Stub=prediction_service_pb2_grpc.PredictionServiceStub,
  )


def warmup_records(path: Path) -> Iterator[tuple[str, Arrays]]:
  """Yields signature and inputs of each request replayed at loading.

  Raises:
    InputError: the file is damaged, or a record is no request to predict.
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
  except Exception as error:  # protobuf's own, which has no public name
    reason = ' '.join(str(error).split())
    raise InputError(f'{path} is damaged ({reason:.200})') from None


class GrpcEndpoint:
  """A model of a server, through `PredictionService`."""

  def __init__(self, target: str, model: str, timeout: float):
    self._api = api()
    self._model = model
    self._timeout = timeout
    self._channel = self._api.grpc.insecure_channel(target, _OPTIONS)
    self._stub = self._api.Stub(self._channel)

  @functools.cached_property
  def _signatures(self) -> dict[str, Signature]:
    request = self._api.MetadataRequest(metadata_field=['signature_def'])
    request.model_spec.name = self._model
    answer = self._call(self._stub.GetModelMetadata, request)
    definitions = self._api.SignatureDefMap()
    if not answer.metadata['signature_def'].Unpack(definitions):
      raise EndpointError('MALFORMED', 'the metadata holds no signatures')
    return read_signatures(definitions.signature_def)

  def signatures(self) -> dict[str, Signature]:
    """Returns the signatures; they are asked for once."""
    return self._signatures

  def predict(self, signature: str, inputs: Mapping[str, Any]) -> Arrays:
    """Runs one signature; see `Endpoint`."""
    # Asked of the server once; without it, types would be guessed.
    spec = pick(self._signatures, signature)
    request = self._api.PredictRequest()
    request.model_spec.name = self._model
    request.model_spec.signature_name = signature
    for name, array in to_arrays(signature, spec, inputs).items():
      request.inputs[name].CopyFrom(tf.make_tensor_proto(array))
    answer = self._call(self._stub.Predict, request)
    return {k: tf.make_ndarray(v) for k, v in answer.outputs.items()}

  def close(self) -> None:
    """Closes the channel."""
    self._channel.close()

  def _call(self, method: Any, request: Any) -> Any:
    try:
      return method(request, timeout=self._timeout)
    except self._api.grpc.RpcError as error:
      raise EndpointError(error.code().name, error.details() or '') from None
