"""Weights in fewer bits, for an export: activations stay float32."""

from typing import Any

import tensorflow as tf

from minigpt.errors import unknown
from minigpt.params import Compact, LayerNorm, Linear, Params, is_absent

WEIGHTS = ('float32', 'bfloat16', 'int8')


def compact(p: Params, weights: str) -> Params:
  """The tree with its matrices stored as `weights`; vectors stay as they are.

  Raises:
    UsageError: there is no such format.
  """
  if weights not in WEIGHTS:
    raise unknown('weights', weights, WEIGHTS)
  return p if weights == 'float32' else _walk(p, _STORE[weights])


def _walk(tree: Any, store: Any) -> Any:
  if isinstance(tree, Linear):
    return tree._replace(w=store(tree.w, 0))
  if isinstance(tree, LayerNorm) or is_absent(tree):
    return tree
  if isinstance(tree, tuple):
    parts = [_walk(part, store) for part in tree]
    return tree._make(parts) if hasattr(tree, '_make') else tuple(parts)
  return store(tree, 1)


def _bfloat16(w: tf.Tensor, axis: int) -> Compact:
  return Compact(tf.Variable(tf.cast(w, tf.bfloat16)))


def int8(w: tf.Tensor, axis: int) -> Compact:
  """Rounds to 255 levels, symmetric about 0 (Jacob et al. 2018, section 3).

  Args:
    w: f32 [in, out], or an embedding [V, D].
    axis: the one that shares a scale: 0 for [in, out], 1 for an embedding.
  """
  largest = tf.reduce_max(tf.abs(w), axis)
  scale = tf.where(largest > 0, largest / 127, 1.0)
  levels = tf.round(w / tf.expand_dims(scale, axis))
  return Compact(tf.Variable(tf.cast(levels, tf.int8)), tf.Variable(scale))


_STORE = {'bfloat16': _bfloat16, 'int8': int8}
