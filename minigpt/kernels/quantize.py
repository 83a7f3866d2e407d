"""Quantized weights, and the layout of weights for generation.

Why: to generate a token, each matrix is multiplied by a vector, which takes as
long as reading the matrix. XLA's loop for that reads memory in order, and on
all cores, if the weights of an output are adjacent: the `[out, in]` layout.
Fewer bits mean less to read.

A quantized tree has `Quantized` matrices in place of plain ones. Its operations
are overloads of the model's, with implementations in `prepacked_matmul`,
`int8_matmul` and `matmul`.

Measured on 2 cores of Zen 5, GPT-2 124M, one sequence: float32 81 tokens/s,
int8 291 (`minigpt bench --what=decode --weights=int8`).

Shapes: V vocabulary, D emb_dim.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from minigpt.compiler.dispatch import Op
from minigpt.config import COMPUTE_DTYPES, WEIGHTS
from minigpt.errors import UsageError, unknown
from minigpt.kernels import onednn_matmul
from minigpt.kernels.elementwise import add_bias
from minigpt.model import layers
from minigpt.model.params import (
  ABSENT,
  LayerNorm,
  Leaf,
  Linear,
  Params,
  cast,
  is_absent,
)


class Quantized(NamedTuple):
  """A matrix in the `[out, in]` layout, possibly in fewer bits.

  It stands for `values`, each row multiplied by its scale; the matrix of a
  `Linear` is transposed. `sums` are present if `int8_matmul` may use it.
  """

  values: Leaf  # f32, bfloat16 or int8 [out, in], or an embedding's [V, D]
  scale: Leaf = ABSENT  # f32 [out] or [V]
  # int32 [out] or [V], sums of the rows of `values`; f32 in `digit_matmul`
  sums: Leaf = ABSENT
  packed: Leaf = ABSENT  # int8, a copy of `values` in oneDNN's layout


class W8A8(Quantized):
  """A matrix for matmuls that also round the activations to 8 bits."""


class InOut(Quantized):
  """The matrix of a `Linear` in the `[in, out]` layout; scaled by column."""


def _is_quantized_linear(p, **_) -> bool:
  return isinstance(p, Linear) and isinstance(p.w, Quantized)


def _is_quantized_table(table, **_) -> bool:
  return isinstance(table, Quantized)


@layers.linear.overload(_is_quantized_linear)
@Op
def quantized_linear(
  x: tf.Tensor, p: Linear
) -> tf.Tensor:  # [..., in] -> [..., out]
  """Computes x w' + b with the dequantized matrix."""
  w = dequantized(p.w, x.dtype)
  y = tf.matmul(x, w, transpose_b=not isinstance(p.w, InOut))
  return add_bias(y, p.b)


def dequantized(w: Quantized, dtype: tf.DType) -> tf.Tensor:
  """Returns the matrix that `w` stands for, in its layout."""
  values = tf.cast(w.values, dtype)
  if is_absent(w.scale):
    return values
  return values * (w.scale if isinstance(w, InOut) else w.scale[:, None])


@layers.embedding_logits.overload(_is_quantized_table)
def quantized_logits(
  x: tf.Tensor, table: Quantized
) -> tf.Tensor:  # [..., D] -> [..., V]
  """Computes the dot product of x with every row of a quantized embedding."""
  return quantized_linear(x, Linear(table))


@layers.embedding_lookup.overload(_is_quantized_table)
def quantized_lookup(
  table: Quantized, index: tf.Tensor | slice
) -> tf.Tensor:  # [V, D], [...] -> [..., D]
  """Returns rows of a quantized embedding, in float32."""
  look_up = layers.embedding_lookup.definition
  rows = tf.cast(look_up(table.values, index), tf.float32)
  if is_absent(table.scale):
    return rows
  return rows * look_up(table.scale, index)[..., None]


def quantize(
  p: Params,
  weights: str,
  compute_dtype: str = 'float32',
  exported: bool = False,
  compiled: bool = True,
) -> Params:
  """Returns the tree with its matrices in the format `weights`, `[out, in]`.

  Biases and gains are not changed.

  Args:
    p: the tree, or a part of it.
    weights: one of `config.WEIGHTS`; 'w8a8' is int8 with 8-bit activations.
    compute_dtype: dtype of the activations; bfloat16 also stores all weights.
    exported: leave out copies that help only in this process.
    compiled: whether XLA will read the weights. Otherwise they are stored
      `[in, out]`, which TensorFlow's kernels read faster for several rows.

  Raises:
    UsageError: the format is unknown, or does not support the dtype.
  """
  if weights not in WEIGHTS:
    raise unknown('weights', weights, WEIGHTS)
  if compute_dtype not in COMPUTE_DTYPES:
    raise unknown('compute_dtype', compute_dtype, COMPUTE_DTYPES)
  if weights == compute_dtype == 'float32' and not compiled:
    return p
  if compute_dtype == 'float32':
    store = _STORE[weights]
    if not exported:
      return map_matrices(p, lambda w: _packed(store(w)))
    return map_matrices(p, store, store if compiled else in_out(store))
  if weights in ('int8', 'w8a8'):
    raise UsageError(
      f'compute_dtype={compute_dtype}: weights={weights} compute in float32; '
      'leave one of them out'
    )
  stored = tf.nest.map_structure(tf.Variable, cast(p, compute_dtype))
  return map_matrices(stored, lambda w: w)


def in_out(
  store: Callable[[tf.Tensor], Quantized],
) -> Callable[[tf.Tensor], InOut]:
  """Makes `store` return its result in the `[in, out]` layout."""

  def store_in_out(w: tf.Tensor) -> InOut:
    stored = store(w)
    # Not by TensorFlow, which prints that oneDNN cannot transpose bytes.
    values = np.transpose(stored.values.numpy())
    return InOut(tf.Variable(values), *stored[1:])

  return store_in_out


def map_matrices(
  tree: Any,
  store: Callable[[tf.Tensor], Any],
  store_linear: Callable[[tf.Tensor], Any] | None = None,
) -> Any:
  """Applies `store` to each matrix; linear layers' are transposed first."""
  store_linear = store_linear or store
  if isinstance(tree, Linear):
    w = store_linear(tf.transpose(tree.w))
    is_stored = isinstance(w, Quantized)
    return tree._replace(w=w if is_stored else Quantized(tf.Variable(w)))
  if isinstance(tree, LayerNorm) or is_absent(tree):
    return tree
  if isinstance(tree, tuple):
    parts = [map_matrices(part, store, store_linear) for part in tree]
    return tree._make(parts) if hasattr(tree, '_make') else tuple(parts)
  return store(tree)


def int8(w: tf.Tensor) -> Quantized:
  """Rounds to 255 levels, symmetric about 0 (Jacob et al. 2018, section 3).

  Args:
    w: f32 [out, in], or an embedding [V, D]; each row gets its own scale.
  """
  largest = tf.reduce_max(tf.abs(w), 1)
  scale = tf.where(largest > 0, largest / 127, 1.0)
  levels = tf.round(w / scale[:, None])
  return Quantized(tf.Variable(tf.cast(levels, tf.int8)), tf.Variable(scale))


def _packed(w):
  """Adds to int8 weights the sums and the packed copy for `int8_matmul`."""
  if not isinstance(w, Quantized) or w.values.dtype != tf.int8:
    return w
  sums = tf.Variable(tf.reduce_sum(tf.cast(w.values, tf.int32), 1))
  if not onednn_matmul.multiplies_int8():
    return w._replace(sums=sums)
  packed = tf.Variable(onednn_matmul.pack(tf.convert_to_tensor(w.values)))
  return w._replace(sums=sums, packed=packed)


_STORE: dict[str, Callable[[tf.Tensor], Any]] = {
  'float32': lambda w: w,
  'bfloat16': lambda w: Quantized(tf.Variable(tf.cast(w, tf.bfloat16))),
  'int8': int8,
  'w8a8': lambda w: W8A8(*int8(w)),
}
