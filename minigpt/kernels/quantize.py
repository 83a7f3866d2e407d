"""Weights laid out to write text, perhaps in fewer bits."""

from typing import Any

import tensorflow as tf

from minigpt.config import COMPUTE_DTYPES
from minigpt.errors import UsageError, unknown
from minigpt.kernels import onednn_matmul
from minigpt.model.params import (
  W8A8,
  Compact,
  LayerNorm,
  Linear,
  Params,
  cast,
  is_absent,
)

STORED = ('float32', 'bfloat16', 'int8')  # in an export
WEIGHTS = (*STORED, 'w8a8')


def compact(
  p: Params,
  weights: str,
  compute_dtype: str = 'float32',
  exported: bool = False,
) -> Params:
  """The tree with its matrices `[out, in]`, stored as `weights`.

  Reading one token multiplies each matrix by a vector. XLA's loop for that
  reads memory in order, and on all cores, when the weights of an output lie
  side by side. Vectors stay as they are. `w8a8` is int8 of which products are
  made in 8 bits as well (`byte_products`).

  Args:
    compute_dtype: of the activations; bfloat16 keeps all weights in it.
    exported: leave out what helps no other process than this one.

  Raises:
    UsageError: there is no such format, or it computes in float32 alone.
  """
  if weights not in WEIGHTS:
    raise unknown('weights', weights, WEIGHTS)
  if compute_dtype not in COMPUTE_DTYPES:
    raise unknown('compute_dtype', compute_dtype, COMPUTE_DTYPES)
  if compute_dtype == 'float32':
    store = _STORE[weights]
    return _walk(p, store if exported else lambda w: _for_bytes(store(w)))
  if weights in ('int8', 'w8a8'):
    raise UsageError(
      f'compute_dtype={compute_dtype}: weights={weights} compute in float32; '
      'leave one of them out'
    )
  stored = tf.nest.map_structure(tf.Variable, cast(p, compute_dtype))
  return _walk(stored, _as_it_is)


def _walk(tree: Any, store: Any) -> Any:
  if isinstance(tree, Linear):
    return tree._replace(w=_transposed(store(tf.transpose(tree.w))))
  if isinstance(tree, LayerNorm) or is_absent(tree):
    return tree
  if isinstance(tree, tuple):
    parts = [_walk(part, store) for part in tree]
    return tree._make(parts) if hasattr(tree, '_make') else tuple(parts)
  return store(tree)


def _transposed(w):
  return w if isinstance(w, Compact) else Compact(tf.Variable(w))


def _as_it_is(w: tf.Tensor) -> tf.Tensor:
  return w


def _bfloat16(w: tf.Tensor) -> Compact:
  return Compact(tf.Variable(tf.cast(w, tf.bfloat16)))


def int8(w: tf.Tensor) -> Compact:
  """Rounds to 255 levels, symmetric about 0 (Jacob et al. 2018, section 3).

  Args:
    w: f32 [out, in], or an embedding [V, D]; each row gets its own scale.
  """
  largest = tf.reduce_max(tf.abs(w), 1)
  scale = tf.where(largest > 0, largest / 127, 1.0)
  levels = tf.round(w / scale[:, None])
  return Compact(tf.Variable(tf.cast(levels, tf.int8)), tf.Variable(scale))


def _w8a8(w: tf.Tensor) -> Compact:
  return W8A8(*int8(w))


def _for_bytes(w):
  """With what products in bytes want to know of int8 weights."""
  if not isinstance(w, Compact) or w.values.dtype != tf.int8:
    return w
  sums = tf.Variable(tf.reduce_sum(tf.cast(w.values, tf.int32), 1))
  if not onednn_matmul.multiplies_bytes():
    return w._replace(sums=sums)
  packed = tf.Variable(onednn_matmul.pack(tf.convert_to_tensor(w.values)))
  return w._replace(sums=sums, packed=packed)


_STORE = {
  'float32': _as_it_is,
  'bfloat16': _bfloat16,
  'int8': int8,
  'w8a8': _w8a8,
}
