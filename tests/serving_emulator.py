"""An emulator of TensorFlow Serving on loopback, only for tests.

It implements the server's gRPC API with the real stubs, and the part of its
HTTP API that the client uses, after the server's source and documentation.
Batching, warm-up and versions are not emulated. The export runs in an
`IsolatedProcess`: v1 loader, `Session.run`, XLA off.
"""

import base64
import contextlib
import http.server
import json
import threading
import time
from collections.abc import Iterator
from concurrent import futures
from typing import NamedTuple

import grpc
import tensorflow as tf
from google.protobuf import json_format
from tensorflow_serving.apis import (
  get_model_metadata_pb2,
  predict_pb2,
)

from minigpt.conformance.isolated_process import IsolatedProcess
from minigpt.conformance.serving_session import read_saved_model
from minigpt.serving.endpoint import EndpointError

MODEL = 'shakespeare'
_STATUS = {'INVALID_ARGUMENT': 400, 'NOT_FOUND': 404, 'DEADLINE_EXCEEDED': 504}


class Emulator(NamedTuple):
  """The addresses of the emulator, and the faults that a test injects."""

  grpc: str  # host:port
  rest: str
  # 'seconds' to sleep before each answer. Over REST: 'body' of each answer,
  # 'length' that its header claims, 'drip' seconds between its bytes. Over
  # gRPC: 'outputs', which is called with them; 'bytes' of each answer.
  faults: dict


class Backend:
  """The functions that both protocols use."""

  def __init__(self, export_dir, process: IsolatedProcess, faults: dict):
    definitions = read_saved_model(export_dir).signature_def
    self.metadata = get_model_metadata_pb2.SignatureDefMap()
    for name, definition in definitions.items():
      self.metadata.signature_def[name].CopyFrom(definition)
    self.process = process
    self.faults = faults

  def check_name(self, name):
    time.sleep(self.faults.get('seconds', 0))
    if name != MODEL:
      raise EndpointError(
        'NOT_FOUND',
        f'Servable not found for request: Latest({name})',
      )


class GrpcService:
  def __init__(self, backend: Backend):
    self._backend = backend

  def GetModelMetadata(self, request, context):  # noqa: N802
    return self._guarded(context, self._metadata, request)

  def Predict(self, request, context):  # noqa: N802
    return self._guarded(context, self._predict, request)

  def _guarded(self, context, answer, request):
    try:
      self._backend.check_name(request.model_spec.name)
      return answer(request)
    except EndpointError as error:
      context.abort(getattr(grpc.StatusCode, error.kind), error.message)

  def _metadata(self, request):
    response = get_model_metadata_pb2.GetModelMetadataResponse()
    response.model_spec.name = MODEL
    response.metadata['signature_def'].Pack(self._backend.metadata)
    return response

  def _predict(self, request):
    inputs = {k: tf.make_ndarray(v) for k, v in request.inputs.items()}
    name = request.model_spec.signature_name or 'serving_default'
    response = predict_pb2.PredictResponse(model_spec=request.model_spec)
    for key, array in self._backend.process.predict(name, inputs).items():
      response.outputs[key].CopyFrom(tf.make_tensor_proto(array))
    self._backend.faults.get('outputs', lambda outputs: None)(response.outputs)
    return response

  def handler(self):
    """The stubs' handler, but with faults in what it sends."""
    requests = {
      'GetModelMetadata': get_model_metadata_pb2.GetModelMetadataRequest,
      'Predict': predict_pb2.PredictRequest,
    }
    return grpc.method_handlers_generic_handler(
      'tensorflow.serving.PredictionService',
      {
        name: grpc.unary_unary_rpc_method_handler(
          getattr(self, name), request.FromString, self._serialize
        )
        for name, request in requests.items()
      },
    )

  def _serialize(self, response):
    return self._backend.faults.get('bytes', response.SerializeToString())


def _http_handler(backend: Backend) -> type:
  class Handler(http.server.BaseHTTPRequestHandler):
    def log_message(self, *args):
      pass

    def do_GET(self):
      self._guarded('/metadata', lambda: _rest_metadata(backend))

    def do_POST(self):
      size = int(self.headers['Content-Length'])
      body = json.loads(self.rfile.read(size))
      self._guarded(':predict', lambda: _rest_predict(backend, body))

    def _guarded(self, suffix, answer):
      name = self.path.removeprefix('/v1/models/').removesuffix(suffix)
      try:
        backend.check_name(name)
        status, body = 200, answer()
      except EndpointError as error:
        status = _STATUS.get(error.kind, 500)
        body = {'error': error.message}
      self._send(status, json.dumps(body))

    def _send(self, status, body):
      faults = backend.faults
      body = faults.get('body', body).encode()
      self.send_response(status)
      self.send_header('Content-Type', 'application/json')
      self.send_header('Content-Length', str(faults.get('length', len(body))))
      self.end_headers()
      pieces = [body[i : i + 1] for i in range(len(body))]
      with contextlib.suppress(OSError):  # The client may have gone.
        for piece in pieces if 'drip' in faults else [body]:
          self.wfile.write(piece)
          time.sleep(faults.get('drip', 0))

  return Handler


def _rest_metadata(backend: Backend) -> dict:
  definitions = json_format.MessageToDict(
    backend.metadata, preserving_proto_field_name=True
  )
  return {
    'model_spec': {'name': MODEL, 'signature_name': '', 'version': '1'},
    'metadata': {'signature_def': definitions},
  }


def _rest_predict(backend: Backend, body: dict) -> dict:
  """Answers in columns or rows; a single output is sent without its name."""
  name = body.get('signature_name', 'serving_default')
  rows = body.get('instances', [])
  columns = body.get('inputs', {})
  if rows:
    columns = {key: [row[key] for row in rows] for key in rows[0]}
  inputs = {key: _from_json(value) for key, value in columns.items()}
  answer = backend.process.predict(name, inputs)
  outputs = {key: _to_json(key, value) for key, value in answer.items()}
  lone = next(iter(outputs.values())) if len(outputs) == 1 else None
  if not rows:
    return {'outputs': lone or outputs}
  values = zip(*outputs.values(), strict=True)
  named = [dict(zip(outputs, row, strict=True)) for row in values]
  return {'predictions': lone or named}


def _from_json(value):
  return _walk(
    value, lambda v: base64.b64decode(v['b64']) if isinstance(v, dict) else v
  )


def _to_json(name, array):
  """Converts to JSON: text as it is, names in _bytes as base64."""
  if array.dtype != object:
    return array.tolist()
  if name.endswith('_bytes'):
    return _walk(
      array.tolist(), lambda v: {'b64': base64.b64encode(v).decode()}
    )
  return _walk(array.tolist(), bytes.decode)


def _walk(value, change):
  if isinstance(value, list):
    return [_walk(each, change) for each in value]
  return change(value)


@contextlib.contextmanager
def emulator(export_dir, process: IsolatedProcess) -> Iterator[Emulator]:
  """Serves the export at two free ports until the block ends."""
  faults = {}
  backend = Backend(export_dir, process, faults)
  rpc = grpc.server(
    futures.ThreadPoolExecutor(8),
    options=[
      ('grpc.max_receive_message_length', -1),
      ('grpc.max_send_message_length', -1),
    ],
  )
  rpc.add_generic_rpc_handlers((GrpcService(backend).handler(),))
  port = rpc.add_insecure_port('127.0.0.1:0')
  rpc.start()
  web = http.server.ThreadingHTTPServer(
    ('127.0.0.1', 0), _http_handler(backend)
  )
  threading.Thread(target=web.serve_forever, daemon=True).start()
  try:
    yield Emulator(
      f'127.0.0.1:{port}', f'127.0.0.1:{web.server_address[1]}', faults
    )
  finally:
    web.shutdown()
    web.server_close()
    rpc.stop(None)
