"""Counts the operations and bytes of a model, from its shapes.

A multiplication and an addition are two operations; only matmuls are counted.

Shapes: T context, D emb_dim, F mlp_dim, L layers, V vocabulary.
"""

from minigpt.config import GPTConfig, TrainConfig
from minigpt.model.params import count, specs
from minigpt.training import muon

# Bytes per parameter: an update reads weight, gradient and two moments, and
# writes all but the gradient, in float32.
_UPDATE_BYTES = 7 * 4


def forward_flops(
  config: GPTConfig, n_tokens: int, n_keys: float, n_scored: int
) -> float:
  """Returns the operations of one forward pass.

  Args:
    config: the model.
    n_tokens: tokens that pass through the blocks.
    n_keys: keys per token, including masked ones.
    n_scored: tokens whose logits are computed.
  """
  c = config
  block = 4 * c.emb_dim**2 + 2 * c.emb_dim * c.mlp_dim
  pairs = 2 * n_keys * c.emb_dim
  head = c.emb_dim * (c.vocab_size + c.vocab_padding)
  return 2 * (n_tokens * c.n_layers * (block + pairs) + n_scored * head)


def prefill_flops(config: GPTConfig, n_rows: int, n_prompt: int) -> float:
  """Returns the operations of a forward pass that scores only each row's end.

  In the last block, all but the last token need only keys and values.
  """
  c = config
  after = c.emb_dim**2 + 2 * c.emb_dim * c.mlp_dim + 2 * n_prompt * c.emb_dim
  n_spared = n_rows * (n_prompt - 1)
  full = forward_flops(config, n_rows * n_prompt, n_prompt, n_rows)
  return full - 2 * n_spared * after


def train_flops_per_token(config: GPTConfig) -> float:
  """Returns the operations of forward and backward pass for one token.

  The backward pass takes twice the operations of the forward pass (Chowdhery et
  al. 2022, appendix B); `remat` repeats the forward pass of the blocks.
  """
  forward = forward_flops(config, 1, config.context_length, 1)
  blocks = forward_flops(config, 1, config.context_length, 0)
  return 3 * forward + (blocks if config.remat else 0)


def update_flops(config: GPTConfig, recipe: TrainConfig) -> float:
  """Returns the operations of one update; AdamW's has no matmuls."""
  if recipe.optimizer == 'adamw':
    return 0

  def iteration(m: int, n: int) -> int:  # of `muon.newton_schulz`, m <= n
    return 4 * m * m * n + 2 * m**3

  d, f = config.emb_dim, config.mlp_dim
  block = 4 * iteration(d, d) + 2 * iteration(d, f)
  return muon.ITERATIONS * config.n_layers * block


def update_bytes(config: GPTConfig) -> int:
  """Returns the bytes of one update that touches each operand once."""
  return _UPDATE_BYTES * count(specs(config))


def cache_bytes(config: GPTConfig, n_rows: int, n_seen: float) -> float:
  """Returns the bytes of float32 keys and values that a decoding step reads.

  Args:
    config: the model.
    n_rows: rows in the batch.
    n_seen: tokens in the cache of each row.
  """
  return 2 * 4 * n_rows * config.n_layers * n_seen * config.emb_dim
