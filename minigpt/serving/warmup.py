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


def request(prompt: str, batch_size: int, version: int) -> dict[str, tf.Tensor]:
  """Returns inputs of `generate` for a few tokens.

  No option is at its default, so that every kernel runs.
  """
  shape = [batch_size]
  options = {
    name: tf.fill(shape, tf.constant(field.example, field.dtype))
    for name, field in fields_of(version).items()
  }
  return {'prompt': tf.fill(shape, prompt), **options}


def write(
  folder: Path, name: str, prompt: str, batch_sizes: Sequence[int]
) -> None:
  """Writes a record for each batch size and version of `generate`.

  Raises:
    InputError: tensorflow-serving-api is missing.
  """
  new_log = grpc_endpoint.api().PredictionLog
  with tf.io.TFRecordWriter(str(folder / FILE)) as writer:
    for version, batch_size in itertools.product(versions(), batch_sizes):
      log = new_log()
      asked = log.predict_log.request
      asked.model_spec.name = name
      asked.model_spec.signature_name = signature_name('generate', version)
      for key, value in request(prompt, batch_size, version).items():
        asked.inputs[key].CopyFrom(tf.make_tensor_proto(value))
      writer.write(log.SerializeToString())
