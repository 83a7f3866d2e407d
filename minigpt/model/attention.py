"""Attention as a ladder: each step adds one idea to the one before.

  self_attention    every position looks at every position
  causal_attention  ... but never at a later one
  attention         ... with several heads side by side

All compute `dot_product_attention`, with different masks and reshapes.
`kv_cache` adds the last step: it keeps the keys and values of earlier tokens.

Shapes: B batch, T queries, S keys, H heads, K head size, D = H * K.
"""

import math

import tensorflow as tf

from minigpt.compiler.dispatch import Op
from minigpt.model import params
from minigpt.model.hooks import Hook, no_hook
from minigpt.model.layers import dropout, fold_in, linear, sizes


@Op
def dot_product_attention(
  q: tf.Tensor,
  k: tf.Tensor,
  v: tf.Tensor,
  mask: tf.Tensor | None = None,
  causal: bool = False,
  drop_rate: float = 0.0,
  rng: tf.Tensor | None = None,
  hook: Hook = no_hook,
) -> tf.Tensor:  # [..., T, K], [..., S, K], [..., S, K] -> [..., T, K]
  """Computes softmax(q k' / sqrt(K)) v (Vaswani et al. 2017, equation 1).

  The softmax is computed in float32.

  Args:
    mask: bool, broadcast to [..., T, S]; False hides a key from a query.
    causal: hide the keys after each query; T must equal S.
    hook: sees `scores` and `weights`, float32 [..., T, S].
  """
  if causal:
    mask = causal_mask(sizes(q)[-2])
  scores = tf.cast(tf.matmul(q, k, transpose_b=True), tf.float32)
  scores /= math.sqrt(q.shape[-1])
  if mask is not None:
    scores = tf.where(mask, scores, -math.inf)
  weights = hook('weights', tf.nn.softmax(hook('scores', scores)))
  return tf.matmul(dropout(tf.cast(weights, v.dtype), drop_rate, rng), v)


def causal_mask(n: int | tf.Tensor) -> tf.Tensor:  # -> bool [n, n]
  """Returns the mask of the keys at or before each query."""
  position = tf.range(n)
  return position[None, :] <= position[:, None]


def segment_mask(segments: tf.Tensor) -> tf.Tensor:
  """Masks causally within each segment: int [B, T] -> bool [B, T, T]."""
  same = segments[:, :, None] == segments[:, None, :]
  return same & causal_mask(segments.shape[1])


def split_heads(x: tf.Tensor, n_heads: int) -> tf.Tensor:
  """Cuts features into heads: [B, T, D] -> [B, H, T, K]."""
  b, t, d = sizes(x)
  return tf.transpose(
    tf.reshape(x, [b, t, n_heads, d // n_heads]), [0, 2, 1, 3]
  )


def merge_heads(x: tf.Tensor) -> tf.Tensor:
  """Puts heads side by side: [B, H, T, K] -> [B, T, D]."""
  b, h, t, k = sizes(x)
  return tf.reshape(tf.transpose(x, [0, 2, 1, 3]), [b, t, h * k])


def queries_keys_values(
  x: tf.Tensor, p: params.Attention, n_heads: int
) -> list[tf.Tensor]:  # [B, T, D] -> three of [B, H, T, K]
  """Projects x to queries, keys and values, and cuts them into heads."""
  parts = tf.split(linear(x, p.c_attn), 3, axis=-1)
  return [split_heads(part, n_heads) for part in parts]


def self_attention(x: tf.Tensor, p: params.Attention) -> tf.Tensor:
  """Attends with one head and no mask: [B, T, D] -> [B, T, D]."""
  q, k, v = tf.split(linear(x, p.c_attn), 3, axis=-1)
  return linear(dot_product_attention(q, k, v), p.c_proj)


def causal_attention(x: tf.Tensor, p: params.Attention) -> tf.Tensor:
  """Attends with one head, causally: [B, T, D] -> [B, T, D]."""
  q, k, v = tf.split(linear(x, p.c_attn), 3, axis=-1)
  return linear(dot_product_attention(q, k, v, causal=True), p.c_proj)


def attention(
  x: tf.Tensor,
  p: params.Attention,
  n_heads: int,
  drop_rate: float = 0.0,
  rng: tf.Tensor | None = None,
  hook: Hook = no_hook,
  mask: tf.Tensor | None = None,
) -> tf.Tensor:
  """Attends with several heads, causally: [B, T, D] -> [B, T, D].

  Args:
    mask: bool [B, 1, T, T] that replaces the causal mask.
  """
  q, k, v = queries_keys_values(x, p, n_heads)
  y = dot_product_attention(
    q, k, v, mask, mask is None, drop_rate, fold_in(rng, 0), hook
  )
  return dropout(linear(merge_heads(y), p.c_proj), drop_rate, fold_in(rng, 1))
