"""Attention as a ladder: each step adds one idea to the one before.

  self_attention    every position looks at every position
  causal_attention  ... but never at a later one
  attention         ... with several heads side by side
  cached_attention  ... and with earlier keys and values kept, not recomputed

All four are the same kernel, `dot_product_attention` (Vaswani et al. 2017,
equation 1), under different masks and reshapes.

Shapes: B batch, T queries, S keys, H heads, K head size, D = H * K.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import tensorflow as tf

from minigpt.compiler import backend, subgraphs
from minigpt.compiler.remat import pays
from minigpt.kernels import cudnn_attention
from minigpt.kernels.matmul import product
from minigpt.model import params
from minigpt.model.hooks import Tap, no_tap
from minigpt.model.layers import (
  dropout,
  fold,
  linear,
  row_sums,
  sizes,
  softmax,
  softmax_and_log_sums,
)

# Fewer save more products, but each block is more code to compile.
N_QUERIES = 256


class KVCache(NamedTuple):
  """Keys and values of one block's past; slot s holds position s."""

  k: tf.Tensor  # [B, H, S, K]
  v: tf.Tensor  # [B, H, S, K]


def dot_product_attention(
  q: tf.Tensor,
  k: tf.Tensor,
  v: tf.Tensor,
  mask: tf.Tensor | None = None,
  drop_rate: float = 0.0,
  rng: tf.Tensor | None = None,
  tap: Tap = no_tap,
) -> tf.Tensor:  # [..., T, K], [..., S, K], [..., S, K] -> [..., T, K]
  """softmax(q k' / sqrt(K)) v, the softmax in f32.

  Args:
    mask: bool, broadcast to [..., T, S]; False hides a key from a query.
    tap: sees `scores` and `weights`, f32 [..., T, S].
  """
  products = _products(q, k)
  if tap is no_tap:
    weights = attention_weights(products, *_given(mask), scale=_scale(q))
  else:
    scores = tap('scores', scaled_scores(products, mask, _scale(q)))
    weights = tf.cast(tap('weights', softmax(scores)), v.dtype)
  return product(dropout(weights, drop_rate, rng), v)


def _scale(q):
  return 1 / math.sqrt(q.shape[-1])


def _given(mask):
  return () if mask is None else (mask,)


def _products(q, k):  # [..., T, K], [..., S, K] -> [..., T, S]
  is_one = q.shape[0] == 1 and q.shape[-2] == 1
  if backend.mode() == 'xla' and is_one and q.dtype == tf.float32:
    # XLA has one thread multiply one text's query, and all of them sum.
    return tf.reduce_sum(q * k, -1)[..., None, :]
  return product(q, k, transpose_b=True)


def scaled_scores(
  products: tf.Tensor, mask: tf.Tensor | None, scale: float
) -> tf.Tensor:  # [..., T, S] -> f32 [..., T, S]
  scores = scale * tf.cast(products, tf.float32)
  return scores if mask is None else tf.where(mask, scores, -math.inf)


@subgraphs.fused
def attention_weights(
  products: tf.Tensor, mask: tf.Tensor | None = None, *, scale: float
) -> tf.Tensor:  # [..., T, S] -> [..., T, S]
  weights = softmax(scaled_scores(products, mask, scale))
  return tf.cast(weights, products.dtype)


def thrifty_attention(
  q: tf.Tensor,
  k: tf.Tensor,
  v: tf.Tensor,
  mask: tf.Tensor | None = None,
  drop_rate: float = 0.0,
  rng: tf.Tensor | None = None,
  tap: Tap = no_tap,
) -> tf.Tensor:  # [..., T, K], [..., S, K], [..., S, K] -> [..., T, K]
  """`dot_product_attention` that keeps no weights for its gradient.

  A tape would keep all of [..., T, S], in every layer. The gradient multiplies
  q and k once more, and knows what the exponentials add up to (Dao et al. 2022,
  appendix B.2). Few weights are kept: then this is `dot_product_attention`.

  Args:
    tap: if it looks at anything, all weights are kept.
  """
  if tap is not no_tap or not pays(*sizes(q)[:-1], sizes(k)[-2]):
    return dot_product_attention(q, k, v, mask, drop_rate, rng, tap)

  def drop(x):
    return dropout(x, drop_rate, rng)

  @tf.custom_gradient
  def attend(q, k, v):
    masks, scale = _given(mask), _scale(q)
    w, log_sums = weights_and_log_sums(_products(q, k), *masks, scale=scale)
    y = product(drop(w), v)

    def gradient(dy):
      # XLA would take equal products for one, and keep it.
      again = _products(backend.after(q, dy), k)
      w = weights_again(again, log_sums, *masks, scale=scale)
      dv = product(drop(w), dy, transpose_a=True)
      dw = drop(product(dy, v, transpose_b=True))
      d_products = products_gradient(w, dw, y, dy, scale=scale)
      dq = product(d_products, k)
      return dq, product(d_products, q, transpose_a=True), dv

    return y, gradient

  return attend(q, k, v)


@subgraphs.apart
def weights_and_log_sums(
  products: tf.Tensor, mask: tf.Tensor | None = None, *, scale: float
) -> tuple[tf.Tensor, tf.Tensor]:  # [..., T, S] -> [..., T, S], f32 [..., T, 1]
  """`attention_weights`, and the logs of what was divided by."""
  scores = scaled_scores(products, mask, scale)
  weights, log_sums = softmax_and_log_sums(scores)
  return tf.cast(weights, products.dtype), log_sums


@subgraphs.apart
def weights_again(
  products: tf.Tensor,
  log_sums: tf.Tensor,
  mask: tf.Tensor | None = None,
  *,
  scale: float,
) -> tf.Tensor:  # [..., T, S], f32 [..., T, 1] -> [..., T, S]
  """What `weights_and_log_sums` made, in one pass."""
  scores = scaled_scores(products, mask, scale)
  return tf.cast(tf.exp(scores - log_sums), products.dtype)


@subgraphs.apart
def products_gradient(
  weights: tf.Tensor,
  upstream: tf.Tensor,
  y: tf.Tensor,
  dy: tf.Tensor,
  *,
  scale: float,
) -> tf.Tensor:  # [..., T, S] twice, [..., T, K] twice -> [..., T, S]
  """From the gradient of the weights to that of the products of q and k.

  The mean of the former, by the weights, is y dy: K terms of a sum, not S.
  """
  w, dw, y, dy = (tf.cast(x, tf.float32) for x in (weights, upstream, y, dy))
  mean = row_sums(y * dy)
  return tf.cast(scale * w * (dw - mean), weights.dtype)


def causal_dot_product_attention(
  q: tf.Tensor,
  k: tf.Tensor,
  v: tf.Tensor,
  drop_rate: float = 0.0,
  rng: tf.Tensor | None = None,
  tap: Tap = no_tap,
  n_queries: int = N_QUERIES,
  attend: Callable[..., tf.Tensor] = dot_product_attention,
) -> tf.Tensor:  # [..., T, K], [..., T, K], [..., T, K] -> [..., T, K]
  """`dot_product_attention` under `causal_mask`, in blocks of queries.

  A block is not multiplied with the keys after it, which the mask would hide:
  for long texts half of all.

  Args:
    tap: if it looks at anything, there is one block.
    attend: what attends, as `dot_product_attention` does.
  """
  if (
    cudnn_attention.suits(q)
    and tap is no_tap
    and not (drop_rate and rng is not None)
  ):
    return cudnn_attention.causal_attention(q, k, v)
  n = sizes(q)[-2]
  mask = causal_mask(n)
  if tap is not no_tap or isinstance(n, tf.Tensor) or n <= n_queries:
    return attend(q, k, v, mask, drop_rate, rng, tap)

  starts = range(0, n, n_queries)
  n_each = [min(n_queries, n - start) for start in starts]

  def block(start: int, q: tf.Tensor) -> tf.Tensor:
    end = start + q.shape[-2]
    # A slice of all is none, but TensorFlow's kernels copy it.
    seen = (x if end == n else _first(x, end) for x in (k, v))
    return attend(q, *seen, mask[start:end, :end], drop_rate, fold(rng, start))

  blocks = map(block, starts, tf.split(q, n_each, -2))
  return tf.concat(list(blocks), -2)


def _first(x, n):  # [..., T, K] -> [..., n, K]
  # The gradient of x[..., :n, :] is ten times as slow in TensorFlow's kernels.
  *leading, _, n_features = sizes(x)
  return tf.slice(x, [0] * len(x.shape), [*leading, n, n_features])


def causal_mask(n: int | tf.Tensor) -> tf.Tensor:  # -> bool [n, n]
  """True where key s is not after query t."""
  position = tf.range(n)
  return position[None, :] <= position[:, None]


def segment_mask(segments: tf.Tensor) -> tf.Tensor:
  """`causal_mask` within each segment: int [B, T] -> bool [B, T, T]."""
  same = segments[:, :, None] == segments[:, None, :]
  return same & causal_mask(segments.shape[1])


def split_heads(x: tf.Tensor, n_heads: int) -> tf.Tensor:
  """[B, T, D] -> [B, H, T, K]."""
  b, t, d = sizes(x)
  return tf.transpose(
    tf.reshape(x, [b, t, n_heads, d // n_heads]), [0, 2, 1, 3]
  )


def merge_heads(x: tf.Tensor) -> tf.Tensor:
  """[B, H, T, K] -> [B, T, D]."""
  b, h, t, k = sizes(x)
  return tf.reshape(tf.transpose(x, [0, 2, 1, 3]), [b, t, h * k])


def self_attention(x: tf.Tensor, p: params.Attention) -> tf.Tensor:
  """One head without a mask: [B, T, D] -> [B, T, D]."""
  q, k, v = tf.split(linear(x, p.c_attn), 3, axis=-1)
  return linear(dot_product_attention(q, k, v), p.c_proj)


def causal_attention(x: tf.Tensor, p: params.Attention) -> tf.Tensor:
  """One head that sees no later position: [B, T, D] -> [B, T, D]."""
  q, k, v = tf.split(linear(x, p.c_attn), 3, axis=-1)
  y = dot_product_attention(q, k, v, causal_mask(x.shape[1]))
  return linear(y, p.c_proj)


def attention(
  x: tf.Tensor,
  p: params.Attention,
  n_heads: int,
  drop_rate: float = 0.0,
  rng: tf.Tensor | None = None,
  tap: Tap = no_tap,
  mask: tf.Tensor | None = None,
) -> tf.Tensor:
  """Causal multi-head attention: [B, T, D] -> [B, T, D].

  Args:
    mask: bool [B, 1, T, T] that takes the place of the causal one.
  """
  q, k, v = (
    split_heads(part, n_heads)
    for part in tf.split(linear(x, p.c_attn), 3, axis=-1)
  )
  how = (drop_rate, fold(rng, 0), tap)
  if mask is None:
    y = causal_dot_product_attention(q, k, v, *how, attend=thrifty_attention)
  else:
    y = thrifty_attention(q, k, v, mask, *how)
  return dropout(linear(merge_heads(y), p.c_proj), drop_rate, fold(rng, 1))


def cached_attention(
  x: tf.Tensor,
  p: params.Attention,
  n_heads: int,
  cache: KVCache | None,
  position: tf.Tensor,
  tap: Tap = no_tap,
  only: tf.Tensor | None = None,
) -> tuple[tf.Tensor, KVCache]:
  """`attention` for T new positions of each row, after those in the cache.

  Args:
    x: [B, T, D], row b's positions `position[b]` to `position[b] + T - 1`.
    cache: None where there is nothing before: `position` is 0 throughout.
    position: int32 [B].
    only: int32 [B], which of the new positions is to attend; None: all of them.

  Returns:
    [B, T, D], or [B, 1, D] of one position, and the cache with the new keys and
    values written in.
  """
  q, k, v = (
    split_heads(part, n_heads)
    for part in tf.split(linear(x, p.c_attn), 3, axis=-1)
  )
  is_whole = cache is None and only is None
  if cache is None:
    cache = KVCache(k, v)
  else:
    cache = KVCache(
      write_slots(cache.k, k, position), write_slots(cache.v, v, position)
    )
  if is_whole:
    y = causal_dot_product_attention(q, k, v, tap=tap)
  else:
    new = tf.range(sizes(x)[1])
    if only is not None:
      new = only[:, None]
      q = tf.gather(q, new, axis=2, batch_dims=1)
    query = position[:, None] + new  # [B, T]
    slot = tf.range(sizes(cache.k)[2])  # [S]
    mask = slot <= query[:, None, :, None]  # [B, 1, T, S]
    y = dot_product_attention(q, cache.k, cache.v, mask, tap=tap)
  return linear(merge_heads(y), p.c_proj), cache


def write_slots(
  cache: tf.Tensor, new: tf.Tensor, position: tf.Tensor
) -> tf.Tensor:
  """Writes `new` [B, H, T, K] at slots `position[b]`... of [B, H, S, K]."""
  n_rows, n_heads, n_new, _ = sizes(new)
  row, head, offset = tf.meshgrid(
    tf.range(n_rows), tf.range(n_heads), tf.range(n_new), indexing='ij'
  )
  slot = position[:, None, None] + offset
  index = tf.stack([row, head, slot], -1)
  if backend.mode() == 'xla':
    return tf.tensor_scatter_nd_update(cache, index, new)
  # That kernel copies the cache, this one writes into it, once nobody reads it:
  # without the wait, a turn of a loop would begin here while the turn before
  # still attends. It adds: what the slots hold has to become 0 first.
  with tf.control_dependencies([new]):
    old = tf.gather_nd(cache, index)
  for change in (-old, new):
    cache = tf.raw_ops.ScatterNdNonAliasingAdd(
      input=cache, indices=index, updates=change
    )
  return cache
