"""A model of a server, through TensorFlow Serving's HTTP API."""

import base64
import json
import urllib.parse
from collections.abc import Mapping
from typing import Any

import numpy as np
import tensorflow as tf
from google.protobuf import json_format

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
  to_dtype,
)
from minigpt.serving.http_exchange import exchange

# gRPC's codes by the HTTP statuses to which the server maps them.
_KINDS = {
  400: 'INVALID_ARGUMENT',
  404: 'NOT_FOUND',
  408: 'DEADLINE_EXCEEDED',
  412: 'FAILED_PRECONDITION',
  429: 'RESOURCE_EXHAUSTED',
  500: 'INTERNAL',
  501: 'UNIMPLEMENTED',
  503: 'UNAVAILABLE',
  504: 'DEADLINE_EXCEEDED',
}


class RestEndpoint:
  """A model of a server, through its HTTP API."""

  def __init__(self, target: str, model: str, timeout: float):
    self._target = target
    self._timeout = timeout
    self._signatures: dict[str, Signature] | None = None
    self._path = f'/v1/models/{urllib.parse.quote(model, safe="")}'

  def signatures(self) -> dict[str, Signature]:
    """Returns the signatures; only the first call requests them."""
    return self._known_signatures(Deadline(self._timeout))

  def _known_signatures(self, deadline: Deadline) -> dict[str, Signature]:
    if self._signatures is None:
      answer = self._call(deadline, 'GET', '/metadata')
      with malformed('no signatures in the metadata'):
        fields = answer['metadata']['signature_def']['signature_def']
        graph = json_format.ParseDict(
          {'signature_def': fields}, tf.compat.v1.MetaGraphDef()
        )
        self._signatures = read_signatures(graph.signature_def)
    return self._signatures

  def predict(self, signature: str, inputs: Mapping[str, Any]) -> Arrays:
    """Runs one signature; see `Endpoint`."""
    deadline = Deadline(self._timeout)
    spec = pick(self._known_signatures(deadline), signature)
    arrays = to_arrays(signature, spec, inputs)
    body = {
      'signature_name': signature,
      'inputs': {name: _to_json(array) for name, array in arrays.items()},
    }
    data = json.dumps(body).encode()
    answer = self._call(deadline, 'POST', ':predict', data)
    with malformed(f'no answer of {signature}'):
      return _read_outputs(answer['outputs'], spec, count_rows(spec, arrays))

  def close(self) -> None:
    """Does nothing: each request has a connection of its own."""

  def _call(
    self,
    deadline: Deadline,
    method: str,
    path: str,
    body: bytes | None = None,
  ) -> Any:
    status, text = exchange(
      self._target, deadline, method, self._path + path, body
    )
    try:
      answer = json.loads(text)
    except (ValueError, RecursionError):
      raise EndpointError(
        'MALFORMED', f'HTTP {status}, no JSON: {text[:60]!r}'
      ) from None
    if status != 200:
      said = answer.get('error') if isinstance(answer, dict) else None
      raise EndpointError(
        _KINDS.get(status, f'HTTP_{status}'), str(said or text[:200])
      )
    return answer


def _to_json(array: np.ndarray) -> Any:
  """Converts to JSON; text becomes base64, which allows any bytes."""
  if array.dtype != object:
    return array.tolist()
  encode = np.frompyfunc(
    lambda text: {'b64': base64.b64encode(text).decode()}, 1, 1
  )
  return encode(array).tolist()


def _read_outputs(
  outputs: Any, signature: Signature, n_rows: int | None
) -> Arrays:
  if len(signature.outputs) == 1:  # The server omits the name of a single one.
    outputs = {next(iter(signature.outputs)): outputs}
  return {
    name: _from_json(outputs[name], spec, n_rows)
    for name, spec in signature.outputs.items()
  }


def _from_json(
  value: Any, spec: tf.TensorSpec, n_rows: int | None
) -> np.ndarray:
  if spec.dtype == tf.string:
    decode = np.frompyfunc(_text, 1, 1)
    array = np.asarray(decode(np.array(value, object)), object)
  else:
    # Not np.array(value, dtype), which would parse text, and null as NaN.
    array = to_dtype(np.array(value), spec.dtype)
  check_shape(spec, array.shape, n_rows)
  return array


def _text(value: Any) -> bytes:
  if isinstance(value, dict):
    return base64.b64decode(value['b64'], validate=True)
  return value.encode()
