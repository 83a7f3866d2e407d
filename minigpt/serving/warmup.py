"""Warm-up requests, which a server runs while it loads a version.

Without them, the first request of each batch size is slow, as the server then
prepares the graph. TensorFlow Serving reads them from `assets.extra`, as a
TFRecord file of PredictionLog. Writing it needs tensorflow-serving-api.
"""

import functools
import itertools
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

import tensorflow as tf

from minigpt.generation.sampling_fields import SAMPLING_FIELDS
from minigpt.serving import grpc_endpoint
from minigpt.serving.sampling_inputs import (
  fields_of,
  signature_name,
  versions,
  with_grammar,
)

FILE = 'tf_serving_warmup_requests'


def request(
  signature: str, prompt: str, batch_size: int, version: int
) -> dict[str, tf.Tensor]:
  """Returns inputs of `generate` or `generate_chunk` for a few tokens.

  No option has its default, so that every kernel runs.
  """
  shape = [batch_size]
  options = {
    name: tf.fill(shape, tf.constant(field.example, field.dtype))
    for name, field in fields_of(version).items()
  }
  if signature == 'generate':
    return {'prompt': tf.fill(shape, prompt), **options}
  ones = tf.ones(shape, tf.int32)
  numbers = dict.fromkeys(
    ('prompt_len', 'num_sampled', 'num_alternatives'), ones
  )
  return {
    'ids': tf.zeros([batch_size, 1], tf.int32),
    'stop': tf.fill([batch_size, 1], prompt),
    **numbers,
    **options,
  }


def grammar_request(
  signature: str,
  prompt: str,
  batch_size: int,
  version: int,
  least: Mapping[str, int],
) -> dict[str, tf.Tensor]:
  """Returns inputs of both signatures with grammars: texts of the first one.

  Args:
    signature: 'generate' or 'generate_chunk'.
    prompt: to continue.
    batch_size: B.
    version: of the signature.
    least: the fewest tokens of each grammar.
  """
  name, n_least = next(iter(least.items()))
  zeros = tf.zeros([batch_size], tf.int32)
  inputs = request(signature, prompt, batch_size, version)
  inputs |= {'grammar': tf.fill([batch_size], name), 'min_new_tokens': zeros}
  if signature == 'generate':
    n_new = max(n_least, int(SAMPLING_FIELDS['max_new_tokens'].example))
    return inputs | {'max_new_tokens': tf.fill([batch_size], n_new)}
  return inputs | {
    'stop': tf.fill([batch_size, 1], ''),
    'grammar_state': zeros,
    'num_left': zeros + n_least + inputs['max_new_tokens'],
  }


def write(
  folder: Path,
  name: str,
  prompt: str,
  batch_sizes: Sequence[int],
  least: Mapping[str, int] = MappingProxyType({}),
) -> None:
  """Writes a record for each batch size and version of both signatures.

  Args:
    folder: where the file goes.
    name: of the model.
    prompt: to continue.
    batch_sizes: of the requests.
    least: the fewest tokens of each grammar of the export.

  Raises:
    InputError: tensorflow-serving-api is missing.
  """
  new_log = grpc_endpoint.api().PredictionLog
  with tf.io.TFRecordWriter(str(folder / FILE)) as writer:
    for signature, inputs in _requests(prompt, batch_sizes, least):
      log = new_log()
      asked = log.predict_log.request
      asked.model_spec.name = name
      asked.model_spec.signature_name = signature
      for key, value in inputs.items():
        asked.inputs[key].CopyFrom(tf.make_tensor_proto(value))
      writer.write(log.SerializeToString())


def _requests(
  prompt: str, batch_sizes: Sequence[int], least: Mapping[str, int]
) -> Iterator[tuple[str, dict[str, tf.Tensor]]]:
  """Yields the name of a signature and its inputs, for each record."""
  under = functools.partial(grammar_request, least=least)
  for make in (request, under) if least else (request,):
    for base in ('generate', 'generate_chunk'):
      own = with_grammar(base) if make is under else base
      for version, n_rows in itertools.product(versions(own), batch_sizes):
        inputs = make(base, prompt, n_rows, version)
        yield signature_name(own, version), inputs
