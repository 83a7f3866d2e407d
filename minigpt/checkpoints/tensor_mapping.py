"""Builds a tree of parameters from the tensors of other formats' files.

The reader of a format lists the tensors that the file headers declare
(`Stored`) and maps the leaves of `params` to their names. This module compares
the declarations with the config, and loads the data only if everything matches.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf
from absl import logging

from minigpt.config import GPTConfig
from minigpt.errors import InputError, UsageError
from minigpt.model import params
from minigpt.runtime.json_io import read_json

DTYPES = ('float32', 'float16', 'bfloat16')


class Stored(NamedTuple):
  """A tensor in a file: its header, and a function that loads it."""

  shape: tuple[int, ...]
  dtype: str
  load: Callable[[], np.ndarray]


def assemble(
  path: Path,
  config: GPTConfig,
  stored: dict[str, Stored],
  name_of: Callable[[str], str],
) -> params.Params:
  """Reads the tree of `config` as float32 arrays.

  Args:
    path: the directory, for error messages.
    config: of the model; it decides which tensors are expected.
    stored: the tensors in the files, by name.
    name_of: turns the name of a leaf, such as 'blocks.0.attn.c_attn.w', into
      its name in `stored`.

  Raises:
    InputError: a tensor is missing, unknown, or of another shape or dtype.
  """
  # Check before building the tree: a damaged file may claim a billion layers.
  if config.n_layers > len(stored):
    raise InputError(
      f'{path}: {len(stored)} tensors are too few for {config.n_layers} layers'
    )
  specs = params.specs(config)
  shapes = {
    name_of(leaf): tuple(spec.shape)
    for leaf, spec in params.named_leaves(specs).items()
  }
  _check_names(path, set(shapes), set(stored))
  for name, shape in shapes.items():
    _check_header(path, name, stored[name], shape)
  leaves = [_load(path, name, stored[name]) for name in shapes]
  return tf.nest.pack_sequence_as(specs, leaves)


def _check_names(path: Path, wanted: set[str], found: set[str]) -> None:
  for names, complaint in (
    (wanted - found, 'it lacks'),
    (found - wanted, 'a GPT-2 of this size does not have'),
  ):
    if names:
      more = f' and {len(names) - 1} more' if len(names) > 1 else ''
      raise InputError(f'{path}: {complaint} the tensor {min(names)}{more}')


def _check_header(
  path: Path, name: str, stored: Stored, shape: tuple[int, ...]
) -> None:
  if stored.shape != shape:
    raise InputError(
      f'{path}: {name} has shape {list(stored.shape)}; the config asks for '
      f'{list(shape)}'
    )
  if stored.dtype not in DTYPES:
    raise InputError(
      f'{path}: {name} is {stored.dtype}; only {", ".join(DTYPES)} can be read'
    )


def _load(path: Path, name: str, stored: Stored) -> np.ndarray:
  array = np.asarray(stored.load(), np.float32)
  if not np.isfinite(array).all():
    logging.warning('%s: %s holds NaN or infinity', path, name)
  return array


class Description:
  """A JSON file that describes a model; each error names the file."""

  def __init__(self, file: Path):
    """Reads the file, or raises InputError."""
    self.file = file
    self.content = read_json(file)

  def integer(
    self, key: str, default: int | None = None, least: int = 1
  ) -> int:
    """Returns the integer at `key`, or raises InputError."""
    value = self.content.get(key, default)
    # Not isinstance, as True is an int in Python.
    if type(value) is not int or not least <= value < 2**31:
      raise InputError(
        f'{self.file}: {key} is {value!r}; it must be an integer from {least} '
        'up'
      )
    return value

  def config(self, **sizes: Any) -> GPTConfig:
    """Makes a config of these sizes, or raises InputError."""
    try:
      return GPTConfig(**sizes)
    except (UsageError, TypeError) as e:
      raise InputError(f'{self.file}: {e}') from None
