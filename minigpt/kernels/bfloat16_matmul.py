"""Matmuls of an export in bfloat16, on a server that compiles nothing.

Why: a decoded token takes as long as reading the weights, and in bfloat16 they
are half as many bytes. `tf.matmul` brings such weights into oneDNN's order in
each call, which takes longer than the matmul; here the loop over tokens has
oneDNN keep them (`prepacked_matmul`). It keeps a copy for each operation, so
only a step of one token a row packs: prompts, which need each matrix once for
many rows, do not.

For: `graph-onednn`, with bfloat16 weights and float32 activations. A server
must be built for x86 and run on a processor with AVX-512.

Measured on 2 cores of Zen 5: docs/performance.md; `benchmarks/served.py`.

Shapes: `...` any leading dimensions, N rows, D features, V vocabulary.
"""

import tensorflow as tf

from minigpt.kernels.elementwise import with_leading
from minigpt.kernels.prepacked_matmul import matmul_of_rows, prepacked_matmul
from minigpt.kernels.quantize import InOut, quantized_linear
from minigpt.model import transformer
from minigpt.model.hooks import Hook, no_hook
from minigpt.model.params import MLP, Linear, is_absent

# Rows of an embedding whose logits tell how large logits are, about so many.
_N_SAMPLED = 64
# What is taken off logits is a multiple: other rows of a batch may change the
# last bits of a float32 matmul, but hardly ever what is left after rounding.
_STEP = 8.0


def _is_layer(p, **_) -> bool:
  return isinstance(p.w, InOut) and p.w.values.dtype == tf.bfloat16


@quantized_linear.implementation('graph-onednn', supports=_is_layer)
def bfloat16_linear(
  x: tf.Tensor, p: Linear
) -> tf.Tensor:  # [..., in] -> [..., out]
  """Computes x w + b."""
  return tf.cast(_multiply(x, p), x.dtype)


def _multiply(x, p, then_gelu=False):  # [..., in] -> bfloat16 [..., out]
  is_step = x.shape[-2] == 1
  x = tf.cast(x, tf.bfloat16)
  return matmul_of_rows(x, p.w.values, p.b, then_gelu=then_gelu, packs=is_step)


def _is_mlp(p, hook, **_) -> bool:
  layers_of_it = p.c_fc, p.c_proj
  are_linear = all(isinstance(layer, Linear) for layer in layers_of_it)
  return hook is no_hook and are_linear and all(map(_is_layer, layers_of_it))


@transformer.mlp.implementation('graph-onednn', supports=_is_mlp)
def bfloat16_mlp(
  x: tf.Tensor, p: MLP, hook: Hook = no_hook
) -> tf.Tensor:  # [B, T, D] -> [B, T, D]
  """Computes the MLP, with GELU in the kernel of the layer before it."""
  hidden = _multiply(x, p.c_fc, then_gelu=True)
  return tf.cast(_multiply(hidden, p.c_proj), x.dtype)


def _is_table(p, **_) -> bool:
  is_table = not isinstance(p.w, InOut) and is_absent(p.b)
  return is_table and p.w.values.dtype == tf.bfloat16


@quantized_linear.implementation('graph-onednn', supports=_is_table)
def bfloat16_logits(
  x: tf.Tensor, p: Linear
) -> tf.Tensor:  # [..., D], [V, D] -> [..., V]
  """Computes x w'.

  oneDNN rounds the sums to 8 bits: of a logit of 100 nothing below 0.5 would be
  left, and logits of GPT-2 are as large, most of it a part that all share. It
  is taken off before they are rounded, and then added again.
  """
  rows = tf.reshape(x, [-1, x.shape[-1]])
  table = tf.convert_to_tensor(p.w.values)
  shared = _shared_part(rows, table)
  added = tf.repeat(-tf.cast(shared, table.dtype), table.shape[0], 1)
  y = prepacked_matmul(
    tf.cast(rows, table.dtype),
    table,
    tf.zeros(table.shape[0], table.dtype),
    transpose_w=True,
    added=added,
  )
  return with_leading(tf.cast(y, x.dtype) + shared, x)


def _shared_part(rows, table):  # [N, D], bfloat16 [V, D] -> [N, 1]
  """Returns about the largest logit of some tokens, as bfloat16 can hold it."""
  n_tokens = table.shape[0]
  some = tf.gather(table, range(0, n_tokens, max(n_tokens // _N_SAMPLED, 1)))
  logits = tf.matmul(rows, tf.cast(some, rows.dtype), transpose_b=True)
  largest = tf.reduce_max(logits, 1, keepdims=True)
  rounded = tf.cast(tf.round(largest / _STEP) * _STEP, table.dtype)
  return tf.cast(rounded, rows.dtype)
