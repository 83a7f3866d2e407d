"""Matmuls of exports in bfloat16, for servers without XLA.

Why: a decoding step takes as long as reading the weights, and bfloat16 halves
their bytes. `tf.matmul` rearranges such weights to oneDNN's layout in each
call, which takes longer than the matmul itself; here, oneDNN keeps them packed
(`prepacked_matmul`). Each operation keeps a copy of its own, so only steps of
one token a row use packed weights. Prompts need each matrix only once for many
rows, and do not.

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

# About so many rows of an embedding are sampled to estimate the logits' size.
_N_SAMPLED = 64
# The value that is subtracted from logits is a multiple of this. Other rows of
# a batch may change the last bits of a float32 matmul, but hardly ever a
# multiple.
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
  """Computes the MLP; the kernel of the first layer also computes GELU."""
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

  oneDNN rounds the logits to 8 bits, so a logit of 100 would be rounded to a
  multiple of 0.5. GPT-2's logits are that large, but share most of their size.
  The shared part is subtracted before the rounding, and added again after it.
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
  """Estimates the largest logit of each row, from some tokens, in bfloat16."""
  n_tokens = table.shape[0]
  some = tf.gather(table, range(0, n_tokens, max(n_tokens // _N_SAMPLED, 1)))
  logits = tf.matmul(rows, tf.cast(some, rows.dtype), transpose_b=True)
  largest = tf.reduce_max(logits, 1, keepdims=True)
  rounded = tf.cast(tf.round(largest / _STEP) * _STEP, table.dtype)
  return tf.cast(rounded, rows.dtype)
