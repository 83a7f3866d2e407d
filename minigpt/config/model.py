"""The sizes of a model, and the formats of its weights."""

import dataclasses

from minigpt.config.validation import (
  check,
  check_fraction,
  check_not_negative,
  check_positive,
  option,
)

# Formats of weights: on disk in an export, and in memory. 'w8a8' stores int8
# weights and also rounds activations to 8 bits for the matmul.
STORED_WEIGHTS = ('float32', 'bfloat16', 'int8')
WEIGHTS = (*STORED_WEIGHTS, 'w8a8')


@dataclasses.dataclass(frozen=True)
class GPTConfig:
  """Shape of a GPT-2 style model (Radford et al. 2019).

  The defaults are GPT-2's 124M model with tied embeddings.

  Raises:
    UsageError: a size is not positive, a rate is outside [0, 1), or `emb_dim`
      cannot be split evenly over `n_heads`.
  """

  vocab_size: int = option(
    50257, 'tokens of the vocabulary; with --tokenizer=bpe, of the one to train'
  )
  context_length: int = option(1024, 'tokens the model can look back on')
  emb_dim: int = option(768, 'width of the residual stream')
  n_heads: int = option(12, 'attention heads; they share emb_dim')
  n_layers: int = option(12, 'transformer blocks')
  drop_rate: float = option(
    0.1, 'dropout on embeddings, attention weights and sublayer outputs'
  )
  qkv_bias: bool = option(False, 'add a bias to queries, keys and values')
  bias: bool = option(
    True, 'add a bias to every other dense layer and to layer norms'
  )
  tie_embeddings: bool = option(
    True, 'use the token embedding as the output head too'
  )
  mlp_ratio: int = option(4, 'width of the MLP as a multiple of emb_dim')
  init_std: float = option(
    0.02,
    'standard deviation of the initial weights; narrow models train faster '
    'with a larger one',
  )
  vocab_padding: int = option(
    0, 'embedding rows beyond the vocabulary; no token ever has their ids'
  )
  remat: bool = option(
    False,
    'keep only the input of each block, and compute the block again for its '
    'gradient: less memory, more time',
  )

  def __post_init__(self) -> None:
    """Checks the fields."""
    check_positive(
      self,
      'vocab_size',
      'context_length',
      'emb_dim',
      'n_heads',
      'n_layers',
      'mlp_ratio',
      'init_std',
    )
    check_not_negative(self, 'vocab_padding')
    check_fraction(self, 'drop_rate')
    check(
      self.emb_dim % self.n_heads == 0,
      f'emb_dim={self.emb_dim} is not divisible by n_heads={self.n_heads}',
      'choose a width that the heads can share evenly',
    )

  @property
  def head_dim(self) -> int:
    """Returns the width of one attention head."""
    return self.emb_dim // self.n_heads

  @property
  def mlp_dim(self) -> int:
    """Returns the width of the MLP."""
    return self.mlp_ratio * self.emb_dim

  @property
  def n_parameters(self) -> int:
    """Counts the parameters, as `model.params` lays them out."""
    d, f = self.emb_dim, self.mlp_dim
    # By formula, as `model.params` needs TensorFlow.
    n_tables = 1 if self.tie_embeddings else 2
    embeddings = n_tables * (self.vocab_size + self.vocab_padding) * d
    layernorm = d + self.bias * d
    attention = 4 * d * d + self.qkv_bias * 3 * d + self.bias * d
    mlp = 2 * d * f + self.bias * (f + d)
    block = attention + mlp + 2 * layernorm
    positions = self.context_length * d
    return embeddings + positions + self.n_layers * block + layernorm
