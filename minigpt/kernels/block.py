"""Transformer blocks that are traced once, and rematerialized with `--remat`.

Why: all blocks of a model have the same graph, and tracing it only once takes a
third off the time to the first step (14 -> 9.5 s for GPT-2 124M on 2 cores of
Zen 5). XLA recomputes the gradient of the residual stream for each use unless
it is materialized. With `--remat`, only the input of each block is kept.

For: `xla` and the portable backends; with `--remat` also `hybrid` and `graph`.
"""

import tensorflow as tf

from minigpt.compiler.backend import GRAPH, WHOLE_XLA
from minigpt.compiler.barriers import materialize_gradient
from minigpt.compiler.remat import rematerialized
from minigpt.compiler.subgraphs import traced_once
from minigpt.config import GPTConfig
from minigpt.model import params
from minigpt.model.attention import attention
from minigpt.model.hooks import Hook, no_hook
from minigpt.model.kv_cache import KVCache, cached_block
from minigpt.model.layers import dropout, fold_in, layernorm
from minigpt.model.transformer import block, mlp


def _is_unobserved(hook, **_) -> bool:
  return hook is no_hook


def _is_rematerialized(config, hook, **_) -> bool:
  return hook is no_hook and config.remat


@block.implementation(*WHOLE_XLA, supports=_is_unobserved)
def traced_block(
  x: tf.Tensor,
  p: params.Block,
  config: GPTConfig,
  rng: tf.Tensor | None = None,
  hook: Hook = no_hook,
  mask: tf.Tensor | None = None,
) -> tf.Tensor:  # [B, T, D] -> [B, T, D]
  """Computes a block, traced once for all blocks."""
  return _traced_block(x, p, rng, mask, config=config)


@traced_once
def _traced_block(x, p, rng, mask, *, config):
  def compute(x, p):
    return _block(x, p, config, rng, mask)

  return (rematerialized(compute) if config.remat else compute)(x, p)


def _block(x, p, config, rng, mask):
  """Computes `block` with the gradient of the residual stream materialized."""
  rate, x = config.drop_rate, materialize_gradient(x)
  y, key = layernorm(x, p.ln_1), fold_in(rng, 0)
  y = attention(y, p.attn, config.n_heads, rate, key, mask=mask)
  x = materialize_gradient(x + y)
  y = mlp(layernorm(x, p.ln_2), p.mlp)
  return x + dropout(y, rate, fold_in(rng, 1))


@block.implementation('hybrid', *GRAPH, supports=_is_rematerialized)
def rematerialized_block(
  x: tf.Tensor,
  p: params.Block,
  config: GPTConfig,
  rng: tf.Tensor | None = None,
  hook: Hook = no_hook,
  mask: tf.Tensor | None = None,
) -> tf.Tensor:  # [B, T, D] -> [B, T, D]
  """Computes a block that keeps only `x` for its gradient."""

  def compute(x, p):
    return block.definition(x, p, config, rng, mask=mask)

  return rematerialized(compute)(x, p)


@cached_block.implementation('xla', supports=_is_unobserved)
def traced_cached_block(
  x: tf.Tensor,
  p: params.Block,
  config: GPTConfig,
  cache: KVCache | None,
  position: tf.Tensor,
  hook: Hook = no_hook,
  query_index: tf.Tensor | None = None,
) -> tuple[tf.Tensor, KVCache]:
  """Computes a block for new positions, traced once for all blocks."""
  return _traced_cached_block(x, p, cache, position, query_index, config=config)


@traced_once
def _traced_cached_block(x, p, cache, position, query_index, *, config):
  return cached_block.definition(
    x, p, config, cache, position, query_index=query_index
  )
