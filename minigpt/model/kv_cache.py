"""A GPT that keeps keys and values: each new token is computed only once.

Shapes: B batch, T new tokens, S cache slots, H heads, K head size, D emb_dim.
"""

from typing import NamedTuple

import tensorflow as tf

from minigpt.compiler.dispatch import Op
from minigpt.config import GPTConfig
from minigpt.model import params
from minigpt.model.attention import (
  dot_product_attention,
  merge_heads,
  queries_keys_values,
)
from minigpt.model.hooks import Hook, no_hook, scope
from minigpt.model.layers import embedding_lookup, layernorm, linear, sizes
from minigpt.model.transformer import mlp


class KVCache(NamedTuple):
  """One block's keys and values of earlier tokens; slot s holds position s."""

  k: tf.Tensor  # [B, H, S, K]
  v: tf.Tensor  # [B, H, S, K]


Caches = tuple[KVCache, ...]


def empty_caches(
  n_rows: int | tf.Tensor,
  n_slots: int,
  config: GPTConfig,
  dtype: tf.DType = tf.float32,
) -> Caches:
  """Returns a cache of zeros for each block."""
  shape = [n_rows, config.n_heads, n_slots, config.head_dim]
  return tuple(
    KVCache(tf.zeros(shape, dtype), tf.zeros(shape, dtype))
    for _ in range(config.n_layers)
  )


@Op
def update_slots(
  cache: tf.Tensor, new: tf.Tensor, position: tf.Tensor
) -> tf.Tensor:
  """Writes `new` [B, H, T, K] to [B, H, S, K] from slot `position[b]` on."""
  index = slot_index(new, position)
  return tf.tensor_scatter_nd_update(cache, index, new)


def slot_index(
  new: tf.Tensor, position: tf.Tensor
) -> tf.Tensor:  # [B, H, T, K], int32 [B] -> int32 [B, H, T, 3]
  """Returns row, head and slot of each new vector."""
  n_rows, n_heads, n_new, _ = sizes(new)
  row, head, offset = tf.meshgrid(
    tf.range(n_rows), tf.range(n_heads), tf.range(n_new), indexing='ij'
  )
  return tf.stack([row, head, position[:, None, None] + offset], -1)


def cached_attention(
  x: tf.Tensor,
  p: params.Attention,
  n_heads: int,
  cache: KVCache | None,
  position: tf.Tensor,
  hook: Hook = no_hook,
  query_index: tf.Tensor | None = None,
) -> tuple[tf.Tensor, KVCache]:
  """Attends from T new positions of each row to the cache and to each other.

  Returns [B, T, D], or [B, 1, D] where `query_index` picks one query, and the
  cache with the new keys and values; for the arguments see `cached_gpt`.
  """
  q, k, v = queries_keys_values(x, p, n_heads)
  is_full = cache is None and query_index is None
  if cache is None:
    cache = KVCache(k, v)
  else:
    cache = KVCache(
      update_slots(cache.k, k, position), update_slots(cache.v, v, position)
    )
  if is_full:
    y = dot_product_attention(q, k, v, causal=True, hook=hook)
  else:
    new = tf.range(sizes(x)[1])
    if query_index is not None:
      new = query_index[:, None]
      q = tf.gather(q, new, axis=2, batch_dims=1)
    query = position[:, None] + new  # [B, T]
    slot = tf.range(sizes(cache.k)[2])  # [S]
    mask = slot <= query[:, None, :, None]  # [B, 1, T, S]
    y = dot_product_attention(q, cache.k, cache.v, mask, hook=hook)
  return linear(merge_heads(y), p.c_proj), cache


@Op
def cached_block(
  x: tf.Tensor,
  p: params.Block,
  config: GPTConfig,
  cache: KVCache | None,
  position: tf.Tensor,
  hook: Hook = no_hook,
  query_index: tf.Tensor | None = None,
) -> tuple[tf.Tensor, KVCache]:
  """Computes a block for new positions; see `cached_attention`."""
  y, seen = layernorm(x, p.ln_1), scope(hook, 'attn')
  y, cache = cached_attention(
    y, p.attn, config.n_heads, cache, position, seen, query_index
  )
  if query_index is not None:
    x = tf.gather(x, query_index[:, None], batch_dims=1)
  x = x + y
  y = mlp(layernorm(x, p.ln_2), p.mlp, scope(hook, 'mlp'))
  return hook('residual', x + y), cache


@Op
def cached_gpt(
  tokens: tf.Tensor,
  p: params.Params,
  config: GPTConfig,
  caches: Caches | None,
  position: tf.Tensor,
  hook: Hook = no_hook,
  query_index: tf.Tensor | None = None,
) -> tuple[tf.Tensor, Caches]:
  """Computes `hidden_states` of T new tokens a row, given the cached ones.

  Args:
    tokens: int [B, T], row b's tokens at `position[b]`, `position[b] + 1`, ...
    caches: None starts new caches of T slots; `position` must then be all 0.
    position: int32 [B], how many tokens of each row the caches hold.
    query_index: int32 [B], the one of the T tokens whose state to return; None
      returns all. In the last block, the others give only keys and values.

  Returns:
    [B, T, D], or [B, 1, D] with `query_index`, and the caches with the new
    tokens' keys and values.
  """
  positions = position[:, None] + tf.range(sizes(tokens)[1])
  x = embedding_lookup(p.wte, tokens) + embedding_lookup(p.wpe, positions)
  x, updated = hook('embedding', x), []
  for i, layer in enumerate(p.blocks):
    cache, seen = caches[i] if caches else None, scope(hook, f'blocks.{i}')
    # Only the last block may drop positions: the others feed the next block.
    index = query_index if i == config.n_layers - 1 else None
    x, cache = cached_block(x, layer, config, cache, position, seen, index)
    updated.append(cache)
  return layernorm(x, p.ln_f), tuple(updated)
