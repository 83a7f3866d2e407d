"""Versions of a model, as TensorFlow Serving finds them.

The server lists the model's directory every second and takes any child whose
name is a number, whole or not. So a version is written under another name and
renamed, never changed, and deleted under another name again.
"""

from collections.abc import Callable, Sequence
from pathlib import Path

import tensorflow as tf

from minigpt.errors import InputError, UsageError
from minigpt.runtime import atomic_io
from minigpt.runtime.atomic_io import write_text


def versions(base: Path) -> list[int]:
  """The versions that a server would see, oldest first."""
  try:
    names = [path.name for path in base.iterdir()]
  except FileNotFoundError:
    return []
  except OSError as error:
    raise InputError(f'{base} cannot be listed ({error.strerror})') from None
  return sorted(int(n) for n in names if n.isascii() and n.isdecimal())


def check_keep(keep: int | None) -> None:
  """Raises UsageError where a server could be left without a way back."""
  if keep is not None and keep < 2:
    raise UsageError(
      f'keep_versions={keep}: keep at least 2, so that there is one to go '
      'back to'
    )


def publish(
  base: Path,
  write: Callable[[Path, int], None],
  version: int | None = None,
  keep: int | None = None,
) -> Path:
  """Makes `base/<version>` appear in one stroke.

  Args:
    write: fills the directory that it is given, for this version.
    version: None: one more than the highest there is.
    keep: how many versions, this one among them, survive; None: all.

  Raises:
    UsageError: `keep` is below 2, or `version` below 1.
    InputError: the version exists, or cannot be written; then nothing of it
      is left behind.
  """
  check_keep(keep)
  if version is None:
    version = max(versions(base), default=0) + 1
  if version < 1:
    raise UsageError(f'version={version}: versions start at 1')
  path = base / str(version)
  with atomic_io.new_folder(path, (tf.errors.OpError,)) as scratch:
    write(scratch, version)
  if keep is not None:
    prune(base, keep)
  return path


def prune(base: Path, keep: int) -> None:
  """Deletes all but the newest `keep` versions, at least 2."""
  for version in versions(base)[: -max(keep, 2)]:
    path = base / str(version)
    try:
      atomic_io.delete_folder(path)
    except OSError as error:
      raise InputError(
        f'{path} could not be deleted ({error.strerror}); the new version is '
        'published'
      ) from None


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
  """A ModelServerConfig: the newest version of one model."""
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
  """BatchingParameters: requests that wait together are answered together."""
  allowed = ''.join(f'allowed_batch_sizes: {n}\n' for n in batch_sizes)
  return f"""max_batch_size {{ value: {max(batch_sizes)} }}
batch_timeout_micros {{ value: 5000 }}
max_enqueued_batches {{ value: 256 }}
num_batch_threads {{ value: 2 }}
pad_variable_length_inputs: true
{allowed}"""


def docker_command(base: Path, name: str, xla: bool) -> str:
  """Text generation can outlast the 30 s that REST waits by default."""
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
