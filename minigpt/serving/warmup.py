"""Requests that a server answers to itself while it loads a version.

Without them, the first request of each batch size pays for setting the graph
up. TensorFlow Serving reads them from `assets.extra`: a TFRecord file of
PredictionLog. Needs the package tensorflow-serving-api.
"""

from collections.abc import Sequence
from pathlib import Path

import tensorflow as tf

from minigpt.serving import grpc_endpoint

FILE = 'tf_serving_warmup_requests'
_N_NEW = 4


def request(prompt: str, batch_size: int) -> dict[str, tf.Tensor]:
  """Returns inputs of `generate` that make every kernel run."""
  shape = [batch_size]
  return {
    'prompt': tf.fill(shape, prompt),
    'max_new_tokens': tf.fill(shape, _N_NEW),
    'temperature': tf.fill(shape, 1.0),
    'top_k': tf.fill(shape, 5),
    'top_p': tf.fill(shape, 0.9),
    'seed': tf.zeros(shape, tf.int64),
    'repetition_penalty': tf.fill(shape, 1.1),
    'min_new_tokens': tf.fill(shape, 1),
  }


def write(
  folder: Path, name: str, prompt: str, batch_sizes: Sequence[int]
) -> None:
  """Writes one record for each batch size.

  Raises:
    InputError: tensorflow-serving-api is missing.
  """
  new_log = grpc_endpoint.api().PredictionLog
  with tf.io.TFRecordWriter(str(folder / FILE)) as writer:
    for batch_size in batch_sizes:
      log = new_log()
      asked = log.predict_log.request
      asked.model_spec.name = name
      asked.model_spec.signature_name = 'generate'
      for key, value in request(prompt, batch_size).items():
        asked.inputs[key].CopyFrom(tf.make_tensor_proto(value))
      writer.write(log.SerializeToString())
