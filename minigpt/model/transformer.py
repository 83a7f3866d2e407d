"""GPT-2 (Radford et al. 2019) as functions over a tree of parameters.

`gpt` reads a whole sequence at once; `cached_gpt` reads new tokens after
those whose keys and values it was handed. `class GPT` owns variables and
computes nothing else.

Shapes: B batch, T tokens, S cache slots, D emb_dim, V vocabulary.
"""

import math

import tensorflow as tf

from minigpt.compiler import backend, subgraphs
from minigpt.compiler.remat import pays, recomputed
from minigpt.config import GPTConfig
from minigpt.kernels.fused_linear_cross_entropy import chunked_loss
from minigpt.model import params
from minigpt.model.attention import (
  KVCache,
  attention,
  cached_attention,
  segment_mask,
)
from minigpt.model.hooks import Tap, no_tap, under
from minigpt.model.layers import (
  cross_entropy,
  dropout,
  fold,
  gelu,
  layernorm,
  linear,
  matmul,
  rows,
  sizes,
)

Caches = tuple[KVCache, ...]

# Of f32 logits that a loss has at a time. There are several copies of them.
LOGITS_BYTES = 64 << 20
# More would not pay: the gradient of the head passes through memory for each,
# and large batches keep so much else that larger chunks count for little.
MOST_CHUNKS = 8


def mlp(
  x: tf.Tensor, p: params.MLP, tap: Tap = no_tap
) -> tf.Tensor:  # [B, T, D] -> [B, T, D]
  return linear(tap('hidden', linear(x, p.c_fc, then_gelu=True)), p.c_proj)


def thrifty_mlp(
  x: tf.Tensor, p: params.MLP, tap: Tap = no_tap
) -> tf.Tensor:  # [B, T, D] -> [B, T, D]
  """`mlp` that keeps its hidden units once for its gradient, before GELU.

  Few units are kept twice, and on a GPU all are, which has memory: but not what
  GELU is made of.
  """
  if tap is not no_tap:
    return mlp(x, p, tap)
  hidden = linear(x, p.c_fc)
  if backend.device() == 'cuda':
    return linear(recomputed(gelu)(hidden), p.c_proj)
  project = recomputed(_project) if pays(*sizes(hidden)) else _project
  return project(hidden, p.c_proj)


def _project(hidden, p):
  return linear(gelu(hidden), p)


def block(
  x: tf.Tensor,
  p: params.Block,
  config: GPTConfig,
  rng: tf.Tensor | None = None,
  tap: Tap = no_tap,
  mask: tf.Tensor | None = None,
) -> tf.Tensor:  # [B, T, D] -> [B, T, D]
  """Attention, then MLP, each on a normalized copy and added back."""
  rate, n_heads = config.drop_rate, config.n_heads
  here, x = under(tap, 'attn'), backend.settled(x)
  y = layernorm(x, p.ln_1)
  y = attention(y, p.attn, n_heads, rate, fold(rng, 0), here, mask)
  x = backend.settled(x + y)
  y = thrifty_mlp(layernorm(x, p.ln_2), p.mlp, under(tap, 'mlp'))
  return tap('residual', x + dropout(y, rate, fold(rng, 1)))


def recomputed_block(
  x: tf.Tensor,
  p: params.Block,
  config: GPTConfig,
  rng: tf.Tensor | None = None,
  mask: tf.Tensor | None = None,
) -> tf.Tensor:  # [B, T, D] -> [B, T, D]
  """`block` that keeps nothing for its gradient but `x`."""
  return recomputed(lambda x, p: block(x, p, config, rng, mask=mask))(x, p)


@subgraphs.repeated
def _layer(x, p, rng, mask, *, config):
  of = recomputed_block if config.remat else block
  return of(x, p, config, rng, mask=mask)


def hidden_states(
  tokens: tf.Tensor,
  p: params.Params,
  config: GPTConfig,
  rng: tf.Tensor | None = None,
  tap: Tap = no_tap,
  segments: tf.Tensor | None = None,
) -> tf.Tensor:  # int [B, T] -> [B, T, D]
  """The normalized output of the last block."""
  if segments is None:
    mask, positions = None, rows(p.wpe, slice(tokens.shape[1]))
  else:
    mask = segment_mask(segments)[:, None]
    # The n-th token of a segment sees n keys, its own among them.
    place = tf.reduce_sum(tf.cast(mask[:, 0], tf.int32), -1) - 1
    positions = rows(p.wpe, place)
  x = rows(p.wte, tokens) + positions
  x = tap('embedding', dropout(x, config.drop_rate, fold(rng, 0)))
  for i, layer in enumerate(p.blocks):
    key = fold(rng, i + 1)
    if tap is no_tap:
      x = _layer(x, layer, key, mask, config=config)
    else:
      x = block(x, layer, config, key, under(tap, f'blocks.{i}'), mask)
  return layernorm(x, p.ln_f)


def unembed(
  x: tf.Tensor, p: params.Params, config: GPTConfig
) -> tf.Tensor:  # [..., D] -> [..., V]
  """Scores every token as the next one."""
  return _scores(x, _head(p), config)


def _head(p):
  return p.wte if params.is_absent(p.head) else p.head


def _scores(x, head, config):
  """Rows of padding get no score."""
  logits = matmul(x, head, transpose_w=True)
  return logits[..., : config.vocab_size] if config.vocab_padding else logits


def gpt(
  tokens: tf.Tensor,
  p: params.Params,
  config: GPTConfig,
  rng: tf.Tensor | None = None,
  tap: Tap = no_tap,
  segments: tf.Tensor | None = None,
) -> tf.Tensor:
  """Logits of the token after each position.

  Args:
    tokens: int [B, T], T at most `config.context_length`.
    rng: int32 [2] seed of the dropout; None: no dropout.
    tap: sees the intermediates; see `taps`.
    segments: int [B, T], which of several texts in a row each token belongs
      to: it sees no other text, and its position counts from the text's start.

  Returns:
    [B, T, V]; entry t depends on tokens 0 to t alone.
  """
  hidden = hidden_states(tokens, p, config, rng, tap, segments)
  return unembed(hidden, p, config)


def empty_caches(
  n_rows: int | tf.Tensor, n_slots: int, config: GPTConfig, dtype=tf.float32
) -> Caches:
  shape = [n_rows, config.n_heads, n_slots, config.head_dim]
  return tuple(
    KVCache(tf.zeros(shape, dtype), tf.zeros(shape, dtype))
    for _ in range(config.n_layers)
  )


def cached_gpt(
  tokens: tf.Tensor,
  p: params.Params,
  config: GPTConfig,
  caches: Caches | None,
  position: tf.Tensor,
  tap: Tap = no_tap,
  only: tf.Tensor | None = None,
) -> tuple[tf.Tensor, Caches]:
  """`hidden_states` of T new tokens a row, after those in the caches.

  Args:
    tokens: int [B, T], row b's tokens at `position[b]`, `position[b] + 1`, ...
    caches: None where there is nothing before and `position` is 0 throughout;
      the new ones have T slots.
    position: int32 [B], how many tokens of each row the caches hold.
    only: int32 [B], the one of the T tokens that is asked for; None: all of
      them. The others then take no part in the last block but as keys and
      values.

  Returns:
    [B, T, D], or [B, 1, D] of one token, and the caches with the new tokens in
    them.
  """
  positions = position[:, None] + tf.range(sizes(tokens)[1])
  x = tap('embedding', rows(p.wte, tokens) + rows(p.wpe, positions))
  updated = []
  caches = caches or [None] * config.n_layers
  for i, (layer, cache) in enumerate(zip(p.blocks, caches, strict=True)):
    given = layer, cache, position, only if i == config.n_layers - 1 else None
    if tap is no_tap:
      x, cache = _cached_layer(x, *given, config=config)
    else:
      x, cache = _cached_block(x, *given, config, under(tap, f'blocks.{i}'))
    updated.append(cache)
  return layernorm(x, p.ln_f), tuple(updated)


@subgraphs.repeated
def _cached_layer(x, p, cache, position, only, *, config):
  return _cached_block(x, p, cache, position, only, config, no_tap)


def _cached_block(x, p, cache, position, only, config, tap):
  y, n_heads = layernorm(x, p.ln_1), config.n_heads
  y, cache = cached_attention(
    y, p.attn, n_heads, cache, position, under(tap, 'attn'), only
  )
  x = y + (x if only is None else tf.gather(x, only[:, None], batch_dims=1))
  y = mlp(layernorm(x, p.ln_2), p.mlp, under(tap, 'mlp'))
  return tap('residual', x + y), cache


def loss_fn(
  windows: tf.Tensor,
  p: params.Params,
  config: GPTConfig,
  rng: tf.Tensor | None = None,
  tap: Tap = no_tap,
) -> tf.Tensor:  # int [B, T + 1] -> []
  """Mean cross entropy of every token given those before it, in nats."""
  hidden = hidden_states(windows[:, :-1], p, config, rng, tap)
  targets = windows[:, 1:]
  weights = tf.fill(sizes(targets), 1 / math.prod(targets.shape))
  return summed_loss(hidden, targets, weights, p, config)


def packed_loss_fn(
  windows: tf.Tensor,
  weights: tf.Tensor,
  segments: tf.Tensor,
  p: params.Params,
  config: GPTConfig,
  rng: tf.Tensor | None = None,
  tap: Tap = no_tap,
) -> tf.Tensor:  # int [B, T + 1], f32 [B, T], int [B, T] -> []
  """Weighted sum of the cross entropies of several texts in each row."""
  hidden = hidden_states(windows[:, :-1], p, config, rng, tap, segments)
  return summed_loss(hidden, windows[:, 1:], weights, p, config)


def summed_loss(
  hidden: tf.Tensor,
  targets: tf.Tensor,
  weights: tf.Tensor,
  p: params.Params,
  config: GPTConfig,
  logits_bytes: int = LOGITS_BYTES,
) -> tf.Tensor:  # [B, T, D], int [B, T], f32 [B, T] -> []
  """Weighted sum of cross entropies, in nats.

  Logits are a step's largest tensor: GPT-2 has 206 MB of them for 1,024 tokens,
  and as much again of their gradient. They are made in chunks of at most
  `logits_bytes`, or of an eighth of all.
  """

  def scores(x, head):
    return _scores(x, head, config)

  def loss(scores, targets, weights):
    return tf.reduce_sum(weights * cross_entropy(scores, targets))

  x, head = tf.reshape(hidden, [-1, config.emb_dim]), _head(p)
  rest = tf.reshape(targets, [-1]), tf.reshape(weights, [-1])
  n_chunks = -(-4 * x.shape[0] * config.vocab_size // logits_bytes)
  n_chunks = min(n_chunks, MOST_CHUNKS)
  if n_chunks == 1:
    return loss(scores(x, head), *rest)
  keep = _keeps_gradient(x)
  return chunked_loss(scores, loss, n_chunks, x, head, *rest, keep=keep)


def _keeps_gradient(x):  # [N, D]
  """Whether that of all logits is smaller than a sum of the head's.

  And than what is added to the sum, which is f32. TensorFlow's kernels, unlike
  XLA, would copy it.
  """
  n_rows, emb_dim = x.shape
  is_smaller = x.dtype.size * n_rows <= (x.dtype.size + 4) * emb_dim
  return is_smaller and backend.mode() == 'xla'


class GPT(tf.Module):
  """Owns the variables of one model.

  >>> model = GPT(GPTConfig(**{'vocab_size': 65, 'n_layers': 2}), seed=0)
  >>> logits = gpt(tokens, model.params, model.config)
  """

  def __init__(self, config: GPTConfig, seed: int = 0):
    super().__init__(name='gpt')
    self.config = config
    self.params = params.init_params(config, seed)
