"""Runs a SavedModel as an unmodified TensorFlow Serving does, in this process.

It loads with the v1 loader and answers through `Session.run`, which runs the
same C++ code as the server. `tf.saved_model.load` would rebuild Python objects
and could hide errors in the graph. A server also refuses XLA: disable it with
`disable_xla`, or use `isolated_process`.
"""

import contextlib
import ctypes
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import tensorflow as tf

# TensorFlow has no public name for the protocol buffer of a SavedModel.
from tensorflow.core.protobuf import saved_model_pb2

from minigpt.errors import InputError
from minigpt.serving.endpoint import (
  Arrays,
  EndpointError,
  Signature,
  pick,
  read_signatures,
  to_arrays,
)


def disable_xla() -> None:
  """Disables XLA in this process, for good.

  It calls the same function as the server's `main` does, unless the server runs
  with --xla_cpu_compilation_enabled.
  """
  library = Path(tf.sysconfig.get_lib()) / 'libtensorflow_cc.so.2'
  ctypes.CDLL(str(library))['_ZN10tensorflow21DisableXlaCompilationEv']()


def read_saved_model(export_dir: str | Path) -> Any:
  """Reads the MetaGraphDef that a server would load.

  Raises:
    InputError: there is no SavedModel, or it cannot be read.
  """
  path = Path(export_dir) / 'saved_model.pb'
  saved = saved_model_pb2.SavedModel()
  try:
    saved.ParseFromString(path.read_bytes())
  except OSError as error:
    raise InputError(
      f'{export_dir} holds no SavedModel ({error.strerror}: saved_model.pb); '
      'write one with minigpt export and give its version directory'
    ) from None
  except Exception as error:  # Protobuf's error has no public name.
    raise InputError(f'{path} is not a SavedModel: {error}') from None
  for graph in saved.meta_graphs:
    if 'serve' in graph.meta_info_def.tags:
      return graph
  raise InputError(f"{path} holds no graph tagged 'serve'; export it again")


class ServingSession:
  """An endpoint: the export in this process, with XLA on unless disabled."""

  def __init__(self, export_dir: str | Path):
    """Loads the export.

    Raises:
      EndpointError: the export does not load.
    """
    self._session = tf.compat.v1.Session(graph=tf.Graph())
    with self._session.graph.as_default(), _op_errors():
      self._definitions = tf.compat.v1.saved_model.loader.load(
        self._session, ['serve'], str(export_dir)
      ).signature_def
    # Parsed once, as each request needs them.
    self._signatures = read_signatures(self._definitions)

  def signatures(self) -> dict[str, Signature]:
    """Returns the signatures of the SavedModel by name."""
    return self._signatures

  def predict(self, signature: str, inputs: Mapping[str, Any]) -> Arrays:
    """Runs one signature; see `Endpoint`."""
    spec = pick(self._signatures, signature)
    arrays = to_arrays(signature, spec, inputs)
    definition = self._definitions[signature]
    fetches = {k: v.name for k, v in definition.outputs.items()}
    feeds = {definition.inputs[k].name: v for k, v in arrays.items()}
    with _op_errors():
      return self._session.run(fetches, feeds)

  def close(self) -> None:
    """Frees the session."""
    self._session.close()


@contextlib.contextmanager
def _op_errors() -> Iterator[None]:
  """Turns TensorFlow's errors into EndpointErrors."""
  try:
    yield
  except tf.errors.OpError as error:
    raise EndpointError(_kind(error), error.message) from None
  except (OSError, TypeError, ValueError) as error:
    # Errors that Python raises before it calls C++: shapes, names, files.
    raise EndpointError('INVALID_ARGUMENT', str(error)) from None


def _kind(error: tf.errors.OpError) -> str:
  """Turns an error's class, InvalidArgumentError, into INVALID_ARGUMENT."""
  name = type(error).__name__.removesuffix('Error')
  return re.sub('(?<=[a-z])(?=[A-Z])', '_', name).upper()
