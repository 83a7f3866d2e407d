"""Times the first token of a stream and counts the bytes of all, by format.

  python benchmarks/streamed.py --formats float32 compute-bfloat16 --rounds 3

Exports GPT-2 with random weights, loads each export in a process of its own as
TensorFlow Serving does, without XLA, and streams tokens after a long prompt as
`client.stream` does: a call of `generate_chunk` for the first token, then calls
for 16 each. Requests and answers are the messages of TensorFlow Serving's gRPC,
serialized and read again; HTTP/2 would add its headers. Beside it stands the
time of the prompt alone, a pass of the same kernels in this process.
"""

import argparse
import contextlib
import statistics
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import programs
import tensorflow as tf
from served import PACKED, exports, options, stored

from minigpt.compiler import backend
from minigpt.conformance.isolated_process import IsolatedProcess
from minigpt.generation.request import Request
from minigpt.profiling import workloads
from minigpt.runtime import app, startup
from minigpt.serving import chunks, grpc_endpoint
from minigpt.serving.endpoint import Arrays, pick, to_arrays

# The fields in which a server sends numbers of a kind (`Tensor::AsProtoField`).
_FIELDS = {'i': 'int_val', 'f': 'float_val', 'b': 'bool_val', 'O': 'string_val'}


class Wire:
  """An endpoint whose messages are serialized, and counted."""

  def __init__(self, folder: Path):
    self._endpoint = IsolatedProcess(folder)
    self._api = grpc_endpoint.api()
    self.signatures = self._endpoint.signatures
    self.close = self._endpoint.close
    self.n_bytes = 0

  def predict(self, signature: str, inputs: Mapping[str, Any]) -> Arrays:
    """Runs one signature; see `Endpoint`."""
    request = self._api.PredictRequest()
    request.model_spec.name = 'gpt2'
    request.model_spec.signature_name = signature
    spec = pick(self.signatures(), signature)
    for name, array in to_arrays(signature, spec, inputs).items():
      request.inputs[name].CopyFrom(tf.make_tensor_proto(array))
    request = self._sent(request)
    answer = self._api.PredictResponse()
    answer.model_spec.CopyFrom(request.model_spec)
    given = {name: tf.make_ndarray(x) for name, x in request.inputs.items()}
    for name, array in self._endpoint.predict(signature, given).items():
      _put(answer.outputs[name], array)
    outputs = self._sent(answer).outputs
    return {name: tf.make_ndarray(x) for name, x in outputs.items()}

  def _sent(self, message):
    data = message.SerializeToString()
    self.n_bytes += len(data)
    return type(message).FromString(data)


def _put(proto, array):
  """Writes an array as a server does, a value at a time."""
  proto.dtype = tf.as_dtype(array.dtype).as_datatype_enum
  for size in array.shape:
    proto.tensor_shape.dim.add().size = size
  getattr(proto, _FIELDS[array.dtype.kind]).extend(array.ravel().tolist())


class Streamed(NamedTuple):
  """What a stream took."""

  prompt: float  # seconds of the prompt alone
  first: float  # seconds to the first token
  n_bytes: float  # on the wire, for each token


def stream(wire: Wire, prompt: workloads.Workload, n_new: int) -> Streamed:
  """Streams the tokens after a prompt, once."""
  started = time.perf_counter()
  prompt().numpy()
  took = time.perf_counter() - started
  (ids,) = prompt.arguments['tokens'].numpy()
  row = chunks.Row(ids.astype(np.int32), Request(n_new, temperature=0.0))
  wire.n_bytes = 0
  started = time.perf_counter()
  chunks.predict(wire, [row], 1)
  first = time.perf_counter() - started
  while not row.done:
    chunks.predict(wire, [row], chunks.SIZE)
  return Streamed(took, first, wire.n_bytes / row.n_sampled)


def parse() -> argparse.Namespace:
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument('--preset', default='gpt2-124m')
  parser.add_argument('--vocab_size', type=int, default=50257)
  parser.add_argument('--formats', nargs='+', default=['float32', PACKED])
  parser.add_argument('--rounds', type=int, default=3)
  parser.add_argument('--prompt_length', type=int, default=512)
  parser.add_argument('--new_tokens', type=int, default=65)
  parser.add_argument('--json', help='file for the figures')
  return parser.parse_args()


def main() -> int:
  startup.configure()
  args = parse()
  with contextlib.ExitStack() as stack:
    gpt, config, folders = stack.enter_context(exports(args))
    sides = {}
    for weights, folder in folders.items():
      mode = backend.served_mode(options(weights).compute_dtype)
      sides[weights] = (
        stack.enter_context(contextlib.closing(Wire(folder))),
        workloads.prefill(
          stored(gpt, weights), config, 1, args.prompt_length, mode
        ),
      )
    taken: dict[str, list[Streamed]] = {name: [] for name in sides}
    for turn in range(args.rounds + 1):
      for name, (wire, prompt) in sides.items():
        found = stream(wire, prompt, args.new_tokens)
        if turn:  # The first sets everything up.
          taken[name].append(found)
  found = {name: medians(rounds) for name, rounds in taken.items()}
  print(f'{"":<18}{"prompt":>10}{"first token":>14}{"ratio":>8}{"B/token":>10}')
  for name, row in found.items():
    print(
      f'{name:<18}{1e3 * row["prompt"]:>7.0f} ms{1e3 * row["first"]:>11.0f} ms'
      f'{row["ratio"]:>8.2f}{row["n_bytes"]:>10,.0f}'
    )
  programs.report(args.json, {'rows': found})
  return 0


def medians(rounds: Sequence[Streamed]) -> dict[str, float]:
  """Returns those of each figure, and that of the ratios of the rounds."""
  ratio = statistics.median(each.first / each.prompt for each in rounds)
  middle = map(statistics.median, zip(*rounds, strict=True))
  return {**Streamed(*middle)._asdict(), 'ratio': ratio}


if __name__ == '__main__':
  raise SystemExit(app.exit_code(main))
