"""GPT-2 as OpenAI published it: hparams.json and a TensorFlow checkpoint.

Source: https://github.com/openai/gpt-2, src/model.py.
"""

import contextlib
import functools
import glob
import itertools
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from minigpt.checkpoints.tensor_mapping import Description, Stored, assemble
from minigpt.config import GPTConfig
from minigpt.errors import InputError
from minigpt.model import params
from minigpt.runtime.atomic_io import reason
from minigpt.runtime.literal_path import literal_path

HPARAMS = 'hparams.json'


def read(path: str | Path) -> tuple[GPTConfig, params.Params]:
  """Reads hparams.json, model.ckpt.index and model.ckpt.data-*.

  Returns:
    The config, and the tree with float32 arrays for leaves.

  Raises:
    InputError: the files are damaged or contradict each other.
  """
  path = Path(path)
  hparams = Description(path / HPARAMS)
  config = hparams.config(
    vocab_size=hparams.integer('n_vocab'),
    context_length=hparams.integer('n_ctx'),
    emb_dim=hparams.integer('n_embd'),
    n_heads=hparams.integer('n_head'),
    n_layers=hparams.integer('n_layer'),
    qkv_bias=True,
  )
  prefix = _checkpoint_prefix(path)
  with literal_path(prefix.parent) as folder:
    tensors = _open(prefix, folder / prefix.name)
    return config, assemble(path, config, tensors, name_of)


def name_of(leaf: str) -> str:
  """Turns 'blocks.0.attn.c_attn.w' into 'model/h0/attn/c_attn/w'."""
  return 'model/' + leaf.replace('blocks.', 'h').replace('.', '/')


def _open(prefix: Path, readable: Path) -> dict[str, Stored]:
  """Returns the tensors of a checkpoint by name.

  Args:
    prefix: the checkpoint's prefix, for error messages.
    readable: the same prefix, as TensorFlow can read it (see `literal_path`).
  """
  with _reader_errors(f'{prefix}: damaged checkpoint'):
    reader = tf.train.load_checkpoint(str(readable))
  shapes = reader.get_variable_to_shape_map()
  dtypes = reader.get_variable_to_dtype_map()
  # A damaged index can claim tensors of any size.
  _check_size(
    prefix, sum(math.prod(shapes[name]) * dtypes[name].size for name in shapes)
  )

  def load(name: str, shape: tuple[int, ...]) -> np.ndarray:
    with _reader_errors(f'{prefix}: {name} cannot be read'):
      return reader.get_tensor(name).reshape(shape)

  def stored(name: str) -> Stored:
    shape = tuple(shapes[name])
    if len(shape) == 3:  # [1, in, out]: a convolution of width 1
      shape = shape[1:]
    return Stored(
      shape, dtypes[name].name, functools.partial(load, name, shape)
    )

  return {name: stored(name) for name in shapes if _is_weight(name, shapes)}


def _is_weight(name: str, shapes: Mapping[str, Any]) -> bool:
  """Tells weights from other variables of training.

  The optimizer's slots are below a weight, as 'model/wte/Adam'; counters, such
  as global_step, are outside of 'model/'.
  """
  folders = itertools.accumulate(name.split('/')[:-1], '{}/{}'.format)
  return name.startswith('model/') and not any(f in shapes for f in folders)


def _checkpoint_prefix(path: Path) -> Path:
  try:
    # Not `latest_checkpoint`, which treats the path as a glob pattern.
    named = tf.train.get_checkpoint_state(path)
  except Exception as error:  # The file may hold anything.
    raise InputError(
      f'{path / "checkpoint"} names no checkpoint ({reason(error)}); if the '
      'folder has only one, delete this file'
    ) from None
  if named and Path(f'{named.model_checkpoint_path}.index').is_file():
    return Path(named.model_checkpoint_path)
  indexes = list(path.glob('*.index'))
  if len(indexes) != 1:
    raise InputError(
      f'{path}: it holds {len(indexes)} TensorFlow checkpoints (*.index) and '
      'no file `checkpoint` that names one of them'
    )
  return indexes[0].with_suffix('')


def _check_size(prefix: Path, claimed: int) -> None:
  """Refuses an index that claims more bytes than the data files have."""
  data = prefix.parent.glob(f'{glob.escape(prefix.name)}.data-*')
  held = sum(file.stat().st_size for file in data)
  if claimed > held:
    raise InputError(
      f'{prefix}: its index lists {claimed:,} bytes, its data holds {held:,}'
    )


@contextlib.contextmanager
def _reader_errors(what: str) -> Iterator[None]:
  """Turns errors of TensorFlow's reader into InputErrors."""
  try:
    yield
  except (tf.errors.OpError, RuntimeError, ValueError) as e:
    line = str(e).partition('\n')[0]
    raise InputError(f'{what}: {line}') from None
