"""A decoding step of one token a row, in few TensorFlow operations.

Why: a server without XLA runs each operation separately, and starting one takes
as long as adding a few rows. So this step splits and merges heads with reshapes
of constant sizes, and computes mask and slots once instead of in each layer.
Its attention uses Eigen's matmuls, as oneDNN's take 40 us to start, and the
queries of one token need only 10.

For: `graph` and `graph-onednn`, in inference.

Measured: docs/design/performance_notes.md, "The path of an unmodified server";
`benchmarks/served.py`.

Shapes: B rows, S cache slots, H heads, K head size, D emb_dim.
"""

import math
from typing import NamedTuple

import tensorflow as tf

from minigpt.compiler.backend import GRAPH, current
from minigpt.config import GPTConfig
from minigpt.kernels.cache_update import write_in_place
from minigpt.model import params
from minigpt.model.hooks import Hook, no_hook
from minigpt.model.kv_cache import Caches, KVCache, cached_gpt
from minigpt.model.layers import embedding_lookup, layernorm, linear, sizes
from minigpt.model.transformer import mlp


def _is_one_token(tokens, caches, hook, query_index, **_) -> bool:
  is_alone = tokens.shape[1] == 1 and query_index is None
  return is_alone and caches and hook is no_hook and current().inference


class _Place(NamedTuple):
  """The cache slot and the mask of the new tokens, for all layers."""

  slot: tf.Tensor  # int32 [B * H, 1], index into all rows' and heads' slots
  mask: tf.Tensor  # [B, H, 1, S], 0 for visible keys, else -inf


@cached_gpt.implementation(*GRAPH, supports=_is_one_token)
def gpt_of_one_token(
  tokens: tf.Tensor,
  p: params.Params,
  config: GPTConfig,
  caches: Caches,
  position: tf.Tensor,
  hook: Hook = no_hook,
  query_index: tf.Tensor | None = None,
) -> tuple[tf.Tensor, Caches]:  # int [B, 1], int32 [B] -> [B, 1, D]
  """Computes `cached_gpt` for a single token in each row."""
  x = embedding_lookup(p.wte, tokens)
  x += embedding_lookup(p.wpe, position[:, None])
  place = _place(position, caches[0].k)
  updated = []
  for layer, cache in zip(p.blocks, caches, strict=True):
    y = layernorm(x, layer.ln_1)
    y, cache = _attend(y, layer.attn, config, cache, place)
    x = x + y
    x = x + mlp(layernorm(x, layer.ln_2), layer.mlp)
    updated.append(cache)
  return layernorm(x, p.ln_f), tuple(updated)


def _place(position, keys):  # int32 [B], [B, H, S, K]
  n_rows, n_heads, n_slots, _ = sizes(keys)
  is_seen = tf.range(n_slots) <= position[:, None]
  mask = tf.where(is_seen, 0.0, -math.inf)[:, None, None]
  first = tf.reshape(tf.range(n_rows * n_heads) * n_slots, [-1, n_heads])
  slot = tf.reshape(first + position[:, None], [-1, 1])
  # Tiled: adding a mask of the scores' own shape takes a tenth of the time.
  return _Place(slot, tf.tile(mask, [1, n_heads, 1, 1]))


def _attend(x, p, config, cache, place):
  """Attends from the new token of each row to itself and the cache."""
  n_heads, n_features = config.n_heads, config.head_dim
  q, k, v = tf.split(linear(x, p.c_attn), 3, axis=-1)
  q = tf.reshape(q, [-1, n_heads, 1, n_features]) / math.sqrt(n_features)
  cache = KVCache(_written(cache.k, k, place), _written(cache.v, v, place))
  scores = tf.cast(_matmul(q, cache.k, adj_y=True), tf.float32) + place.mask
  # Not tf.nn.softmax, which TensorFlow gives to oneDNN, slower for few rows.
  weights = tf.exp(tf.nn.log_softmax(scores))
  y = _matmul(tf.cast(weights, x.dtype), cache.v)
  return linear(tf.reshape(y, [-1, 1, n_heads * n_features]), p.c_proj), cache


def _written(cache, new, place):  # [B, H, S, K], [B, 1, D] -> [B, H, S, K]
  n_features = cache.shape[-1]
  slots = tf.reshape(cache, [-1, n_features])
  slots = write_in_place(slots, place.slot, tf.reshape(new, [-1, n_features]))
  return tf.reshape(slots, tf.shape(cache))


def _matmul(x, y, adj_y=False):
  """Multiplies with a kernel that TensorFlow does not replace by oneDNN's."""
  return tf.raw_ops.BatchMatMulV3(x=x, y=y, adj_y=adj_y, Tout=x.dtype)
