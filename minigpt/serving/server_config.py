"""Configuration files and the command of a TensorFlow Serving server."""

import shlex
from collections.abc import Sequence
from pathlib import Path

import tensorflow as tf
from google.protobuf import text_encoding

from minigpt.runtime.atomic_io import write_text

_ENQUEUED = 256  # Batches in the server's queue.
# A server with --enable_per_model_batching_parameters reads this file in a
# version's folder (kBatchingParamsFilename in tensorflow_serving's
# bundle_factory_util.cc).
BATCHING_FILE = 'batching_params.pbtxt'
# What exports need, by the dtype of their matmuls. On other servers, an export
# does not load, or its requests fail.
NEEDS = {
  'bfloat16': 'TensorFlow for x86 and a processor with AVX-512, best '
  'AVX512-BF16 or AMX',
  'int8': 'TensorFlow for x86, best on a processor with VNNI or AMX',
}


def write_serving_config(
  base: Path, name: str, batch_sizes: Sequence[int], xla: bool
) -> str:
  """Writes `models.config` and `batching.config` into `base`.

  Returns:
    The command that serves the model with both files.
  """
  write_text(base / 'models.config', models_config(name))
  write_text(base / 'batching.config', batching_config(batch_sizes))
  return docker_command(base, name, xla)


def models_config(name: str) -> str:
  """Returns a ModelServerConfig: the newest version of one model."""
  name = text_encoding.CEscape(name, as_utf8=True)
  return f"""model_config_list {{
  config {{
    name: "{name}"
    base_path: "/models/{name}"
    model_platform: "tensorflow"
    model_version_policy {{ latest {{ num_versions: 1 }} }}
  }}
}}
"""


def batching_config(batch_sizes: Sequence[int]) -> str:
  """Returns BatchingParameters, by which waiting requests share a batch.

  A request with more rows than the largest batch is split. With splitting,
  `max_batch_size` limits a request, and `max_execution_batch_size` a batch
  (tensorflow/core/kernels/batching_util/shared_batch_scheduler.h).
  """
  allowed = ''.join(f'allowed_batch_sizes: {n}\n' for n in batch_sizes)
  largest = max(batch_sizes)
  # Half of the queue, so that one request cannot fill it.
  return f"""max_batch_size {{ value: {largest * _ENQUEUED // 2} }}
enable_large_batch_splitting {{ value: true }}
max_execution_batch_size {{ value: {largest} }}
batch_timeout_micros {{ value: 5000 }}
max_enqueued_batches {{ value: {_ENQUEUED} }}
num_batch_threads {{ value: 2 }}
pad_variable_length_inputs: true
{allowed}"""


def docker_command(base: Path, name: str, xla: bool) -> str:
  """Returns the command that serves a model with both files."""
  source = _csv_field(f'source={base.resolve()}')
  target = _csv_field(f'target=/models/{name}')
  folder = f'/models/{name}'
  # Generation may take longer than REST's default timeout of 30 s.
  options = [
    ('docker', 'run', '--rm', '-p', '8500:8500', '-p', '8501:8501'),
    ('--mount', f'type=bind,{source},{target},readonly'),
    # A server with an older TensorFlow may lack operations.
    ('-e', f'MODEL_NAME={name}', f'tensorflow/serving:{tf.__version__}'),
    (f'--model_config_file={folder}/models.config',),
    (f'--batching_parameters_file={folder}/batching.config',),
    ('--enable_batching=true',),
    ('--rest_api_timeout_in_ms=300000',),
  ]
  if xla:
    options.append(('--xla_cpu_compilation_enabled=true',))
  return ' \\\n  '.join(map(shlex.join, options))


def _csv_field(text: str) -> str:
  """Quotes a field of `--mount`, which docker reads as CSV (RFC 4180)."""
  if any(c in text for c in ',"\r\n'):
    text = '"' + text.replace('"', '""') + '"'
  return text
