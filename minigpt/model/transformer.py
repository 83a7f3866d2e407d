"""GPT-2 (Radford et al. 2019) as functions over a tree of parameters.

`gpt` computes a whole sequence; `kv_cache.cached_gpt` computes only new tokens
and keeps the keys and values of earlier ones. `class GPT` owns the variables
and computes nothing.

Shapes: B batch, T tokens, D emb_dim, V vocabulary.
"""

import tensorflow as tf

from minigpt.compiler.dispatch import Op
from minigpt.config import GPTConfig
from minigpt.model import params
from minigpt.model.attention import attention, segment_mask
from minigpt.model.hooks import Hook, no_hook, scope
from minigpt.model.layers import (
  dropout,
  embedding_logits,
  embedding_lookup,
  fold_in,
  gelu,
  layernorm,
  linear,
)


@Op
def mlp(
  x: tf.Tensor, p: params.MLP, hook: Hook = no_hook
) -> tf.Tensor:  # [B, T, D] -> [B, T, D]
  """Computes a dense layer to F features, GELU, and a dense layer to D."""
  return linear(hook('hidden', gelu(linear(x, p.c_fc))), p.c_proj)


@Op
def block(
  x: tf.Tensor,
  p: params.Block,
  config: GPTConfig,
  rng: tf.Tensor | None = None,
  hook: Hook = no_hook,
  mask: tf.Tensor | None = None,
) -> tf.Tensor:  # [B, T, D] -> [B, T, D]
  """Adds attention(layernorm(x)) to x, then mlp(layernorm(x))."""
  rate, key = config.drop_rate, fold_in(rng, 0)
  y, seen = layernorm(x, p.ln_1), scope(hook, 'attn')
  x = x + attention(y, p.attn, config.n_heads, rate, key, seen, mask)
  y = mlp(layernorm(x, p.ln_2), p.mlp, scope(hook, 'mlp'))
  return hook('residual', x + dropout(y, rate, fold_in(rng, 1)))


def hidden_states(
  tokens: tf.Tensor,
  p: params.Params,
  config: GPTConfig,
  rng: tf.Tensor | None = None,
  hook: Hook = no_hook,
  segments: tf.Tensor | None = None,
) -> tf.Tensor:  # int [B, T] -> [B, T, D]
  """Returns the normalized output of the last block; arguments as in `gpt`."""
  if segments is None:
    mask, positions = None, embedding_lookup(p.wpe, slice(tokens.shape[1]))
  else:
    mask = segment_mask(segments)[:, None]
    # The n-th token of a segment sees n keys, including its own.
    place = tf.reduce_sum(tf.cast(mask[:, 0], tf.int32), -1) - 1
    positions = embedding_lookup(p.wpe, place)
  x = embedding_lookup(p.wte, tokens) + positions
  x = hook('embedding', dropout(x, config.drop_rate, fold_in(rng, 0)))
  for i, layer in enumerate(p.blocks):
    key, seen = fold_in(rng, i + 1), scope(hook, f'blocks.{i}')
    x = block(x, layer, config, key, seen, mask)
  return layernorm(x, p.ln_f)


def unembed(
  x: tf.Tensor, p: params.Params, config: GPTConfig
) -> tf.Tensor:  # [..., D] -> [..., V]
  """Computes each token's logit to come next."""
  logits = embedding_logits(x, p.wte if params.is_absent(p.head) else p.head)
  # The rows that pad the vocabulary are not tokens.
  return logits[..., : config.vocab_size] if config.vocab_padding else logits


def gpt(
  tokens: tf.Tensor,
  p: params.Params,
  config: GPTConfig,
  rng: tf.Tensor | None = None,
  hook: Hook = no_hook,
  segments: tf.Tensor | None = None,
) -> tf.Tensor:
  """Computes the logits of the token after each position.

  Args:
    tokens: int [B, T], T at most `config.context_length`.
    rng: int32 [2] seed of the dropout; None: no dropout.
    hook: sees the intermediates; see `hooks`.
    segments: int [B, T], the example that each token of a row belongs to. A
      token sees only its own example, and its position counts from that
      example's start.

  Returns:
    [B, T, V]; entry t depends on tokens 0 to t alone.
  """
  hidden = hidden_states(tokens, p, config, rng, hook, segments)
  return unembed(hidden, p, config)


class GPT(tf.Module):
  """Owns the variables of one model: `gpt(tokens, model.params, config)`."""

  def __init__(self, config: GPTConfig, seed: int = 0):
    super().__init__(name='gpt')
    self.config = config
    self.params = params.init_params(config, seed)
