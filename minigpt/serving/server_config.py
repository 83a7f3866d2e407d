"""Configuration files and the command of a TensorFlow Serving server."""

from collections.abc import Sequence
from pathlib import Path

from minigpt.runtime.atomic_io import write_text


def write_serving_config(
  base: Path, name: str, batch_sizes: Sequence[int], xla: bool
) -> str:
  """Writes `models.config` and `batching.config` into `base`.

  Returns:
    the command that serves the model with both.
  """
  write_text(base / 'models.config', models_config(name))
  write_text(base / 'batching.config', batching_config(batch_sizes))
  return docker_command(base, name, xla)


def models_config(name: str) -> str:
  """Returns a ModelServerConfig: the newest version of one model."""
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
  """Returns BatchingParameters: requests that wait share a batch."""
  allowed = ''.join(f'allowed_batch_sizes: {n}\n' for n in batch_sizes)
  return f"""max_batch_size {{ value: {max(batch_sizes)} }}
batch_timeout_micros {{ value: 5000 }}
max_enqueued_batches {{ value: 256 }}
num_batch_threads {{ value: 2 }}
pad_variable_length_inputs: true
{allowed}"""


def docker_command(base: Path, name: str, xla: bool) -> str:
  """Returns the command that serves a model with both files."""
  # Generation can outlast the 30 s that REST waits by default.
  options = [
    'docker run --rm -p 8500:8500 -p 8501:8501',
    f'--mount type=bind,source={base.resolve()},target=/models/{name},readonly',
    f'-e MODEL_NAME={name} tensorflow/serving:latest',
    f'--model_config_file=/models/{name}/models.config',
    f'--batching_parameters_file=/models/{name}/batching.config',
    '--enable_batching=true',
    '--rest_api_timeout_in_ms=300000',
  ]
  if xla:
    options.append('--xla_cpu_compilation_enabled=true')
  return ' \\\n  '.join(options)
