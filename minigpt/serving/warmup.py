"""Requests that a server answers to itself while it loads a version.

Without them, the first request of each batch size pays for setting the graph
up. TensorFlow Serving reads them from `assets.extra`: a TFRecord file of
PredictionLog. Needs the package tensorflow-serving-api.
"""

import itertools
from collections.abc import Sequence
from pathlib import Path

import tensorflow as tf

from minigpt.serving import grpc_endpoint
from minigpt.serving.sampling_inputs import (
  fields_of,
  signature_name,
  versions,
)

FILE = 'tf_serving_warmup_requests'


def request(
  signature: str, prompt: str, batch_size: int, version: int
) -> dict[str, tf.Tensor]:
  """Returns inputs of `generate` or `generate_chunk` for a few tokens.

  No option is at its default, so that every kernel runs.
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


def write(
  folder: Path, name: str, prompt: str, batch_sizes: Sequence[int]
) -> None:
  """Writes a record for each batch size and version of both signatures.

  Raises:
    InputError: tensorflow-serving-api is missing.
  """
  new_log = grpc_endpoint.api().PredictionLog
  recorded = [
    (base, version)
    for base in ('generate', 'generate_chunk')
    for version in versions(base)
  ]
  with tf.io.TFRecordWriter(str(folder / FILE)) as writer:
    for (base, version), n_rows in itertools.product(recorded, batch_sizes):
      log = new_log()
      asked = log.predict_log.request
      asked.model_spec.name = name
      asked.model_spec.signature_name = signature_name(base, version)
      for key, value in request(base, prompt, n_rows, version).items():
        asked.inputs[key].CopyFrom(tf.make_tensor_proto(value))
      writer.write(log.SerializeToString())
