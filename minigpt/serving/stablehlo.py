"""Writes functions as StableHLO, which other runtimes can load.

The directory holds `manifest.json`; for each function its StableHLO, as a
portable artifact (openxla.org/stablehlo/compatibility), which any runtime with
PJRT compiles for its device; and a .npy file for each argument.
docs/performance.md describes the manifest.
"""

import json
import re
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import tensorflow as tf

from minigpt.compiler import jit
from minigpt.errors import InputError
from minigpt.profiling.workloads import Workload
from minigpt.runtime.atomic_io import new_folder

MANIFEST = 'manifest.json'
_N_SHOWN = 8  # Values of each result in the manifest.

# The location of an operation, or the definition of an alias of one.
_INSIDE = r'"[^"]*"|[^()"]'
_LOCATION = re.compile(
  rf' loc\((?:{_INSIDE}|\((?:{_INSIDE})*\))*\)|^#loc.*\n', re.M
)
_COPY = re.compile(r'mhlo\.copy (%\S+) : (\S+)')


def portable(f: tf.types.experimental.PolymorphicFunction, *args: Any) -> bytes:
  """Serializes the program that XLA compiles for `f`.

  The parameters of the program are the arguments, then the captured variables.
  TensorFlow's own serialized form is not portable, as it has operations of
  another dialect, mhlo. So copies become reshapes to the same shape, which cost
  nothing. Locations, which name files of this machine, are removed.

  Raises:
    InputError: this TensorFlow lacks StableHLO's serializer.
  """
  serializer = _import_serializer()
  text = f.experimental_get_compiler_ir(*args)(stage='stablehlo')
  text = _COPY.sub(
    r'stablehlo.reshape \1 : (\2) -> \2', _LOCATION.sub('', text)
  )
  oldest = serializer.get_minimum_version()
  return serializer.serialize_portable_artifact_str(text, oldest)


def _import_serializer() -> ModuleType:
  try:
    from tensorflow.compiler.mlir.stablehlo import stablehlo
  except ImportError:
    raise InputError(
      f'TensorFlow {tf.__version__} cannot write StableHLO; install 2.21'
    ) from None
  return stablehlo


def write(
  folder: Path,
  calls: Mapping[str, Workload],
  about: Mapping[str, Any],
  device: str = 'any',
  expected: bool = True,
  drawn: bool = False,
) -> None:
  """Writes all calls to a new folder, atomically.

  Args:
    folder: the folder, which must not exist.
    calls: the workloads, by the names of their files.
    about: further fields of the manifest.
    device: the target device, one of `backend.DEVICES`.
    expected: run each call, and put some of its results into the manifest.
    drawn: replace matrices by random numbers of the same standard deviation.
      Readers draw the same numbers, so that no large file is written.

  Raises:
    InputError: the folder exists, or cannot be written; nothing is left behind.
  """
  with new_folder(folder, (tf.errors.OpError,)) as scratch:
    functions = {
      name: _write_call(scratch, name, call, device, expected, drawn)
      for name, call in calls.items()
    }
    manifest = {
      'format': 1,
      'device': device,
      **about,
      'functions': functions,
    }
    (scratch / MANIFEST).write_text(json.dumps(manifest, indent=1) + '\n')


def _write_call(folder, name, call, device, expected, drawn) -> dict[str, Any]:
  file = f'{name}.stablehlo'
  f = jit.retraced(call.f, device)
  artifact = portable(f, *call.arguments.values())
  (folder / file).write_bytes(artifact)
  variables = _captured(f, call)
  stored = [
    _write_array(folder, f'{name}.{key}', x)
    for key, x in call.arguments.items()
  ]
  for i, (key, variable) in enumerate(variables.items()):
    std = _deviation(variable) if drawn else 0
    stored.append(
      _draw(variable, i, std) if std else _write_array(folder, key, variable)
    )
  before = {key: value.numpy().tolist() for key, value in call.before.items()}
  return {
    'file': file,
    'unit': call.unit,
    'n_units': call.n_units,
    'n_tokens': call.n_tokens,
    'flops': call.flops,
    'before': before,
    'arguments': [
      {'name': key, **where}
      for key, where in zip([*call.arguments, *variables], stored, strict=True)
    ],
    'results': _results(call, variables, expected),
  }


def _captured(f, call) -> dict[str, tf.Variable]:
  """Returns the variables in the order of XLA's arguments."""
  # A function captures handles, without the names of variables.
  names = {id(v.handle): name for name, v in call.variables.items()}
  concrete = f.get_concrete_function(*call.arguments.values())
  captured = [names[id(handle)] for handle in concrete.captured_inputs]
  return {name: call.variables[name] for name in captured}


def _about(x) -> dict[str, Any]:
  """Describes an array without a file."""
  return {'shape': x.shape.as_list(), 'dtype': x.dtype.name, 'file': None}


def _deviation(variable) -> float:
  """Returns the standard deviation of a matrix; 0 for vectors."""
  is_matrix = variable.shape.rank > 1
  return float(variable.numpy().astype(np.float32).std()) if is_matrix else 0.0


def _draw(variable, seed, std) -> dict[str, Any]:
  """Fills a variable with random numbers, and describes them."""
  x = np.random.default_rng(seed).standard_normal(variable.shape, np.float32)
  x *= std
  if variable.dtype.is_integer:
    x = np.clip(np.rint(x), variable.dtype.min + 1, variable.dtype.max)
  variable.assign(tf.cast(x, variable.dtype))
  return {**_about(variable), 'drawn': {'seed': seed, 'std': std}}


def _write_array(folder, name, x) -> dict[str, Any]:
  """Writes an array, unless the file exists or all of it is zero."""
  about = _about(x)
  array = x.numpy()
  if array.any():
    about['file'] = f'{name}.npy'
    path = folder / about['file']
    if not path.exists():
      np.save(path, array, allow_pickle=False)
  return about


def _results(call, variables, expected) -> list[dict[str, Any]]:
  """Describes the outputs and, for a training step, the changed variables."""
  concrete = call.f.get_concrete_function(*call.arguments.values())
  values = dict(zip(call.results, concrete.outputs, strict=True))
  if expected:
    values = dict(zip(call.results, tf.nest.flatten(call()), strict=True))
  if call.unit == 'step':
    values |= variables
  return [
    {
      'name': name,
      'shape': x.shape.as_list(),
      'dtype': x.dtype.name,
      **(_shown(x.numpy()) if expected else {}),
    }
    for name, x in values.items()
  ]


def _shown(array) -> dict[str, Any]:
  flat = array.astype(np.float64).ravel()
  return {
    'first': flat[:_N_SHOWN].tolist(),
    'norm': float(np.linalg.norm(flat)),
  }
