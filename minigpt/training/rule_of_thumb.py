"""Proposes a model for a text and a time, as a starting point.

Hoffmann et al. 2022 (https://arxiv.org/abs/2203.15556): training N parameters
on D tokens takes 6 N D operations, and for a given number of operations, about
D = 20 N gives the lowest loss. Muennighoff et al. 2023
(https://arxiv.org/abs/2305.16264): up to four passes over a text are nearly as
good as new text.
"""

import math
from typing import NamedTuple

_TOKENS_A_PARAMETER = 20
_PASSES = 4
_ASPECT = 64  # emb_dim / n_layers, as in GPT-2 124M.
_STEPS = 2000  # Fewer are too few to decay a learning rate over.
_MOST_TOKENS_A_STEP = 2**19  # As the smallest GPT-3 (Brown et al. 2020).


class Proposal(NamedTuple):
  """Settings of a run; the fields are names of flags."""

  n_layers: int
  emb_dim: int
  n_heads: int
  vocab_size: int  # for tokenizers whose vocabulary can be chosen
  context_length: int
  batch_size: int
  steps: int

  @property
  def n_parameters(self) -> int:
    """Counts the parameters of the blocks: N in the rule."""
    return 12 * self.n_layers * self.emb_dim**2

  @property
  def n_tokens(self) -> int:
    """Counts the tokens that training sees: D in the rule."""
    return self.steps * self.batch_size * self.context_length


def propose(n_tokens: int, operations: float = math.inf) -> Proposal:
  """Returns a model and a recipe.

  Args:
    n_tokens: of the training text.
    operations: how many there is time for.
  """
  seen = min(
    _PASSES * n_tokens, math.sqrt(operations / 6 * _TOKENS_A_PARAMETER)
  )
  wanted = seen / _TOKENS_A_PARAMETER
  # 12 L D^2 parameters with L = D / 64; multiples of 32 suit processors.
  width = max(round((wanted * _ASPECT / 12) ** (1 / 3) / 32), 1) * 32
  layers = max(round(wanted / (12 * width**2)), 1)
  context = 64 if wanted < 1e6 else 256 if wanted < 5e7 else 1024
  batch = min(seen / _STEPS, _MOST_TOKENS_A_STEP) / context
  batch_size = max(round(batch), 1)
  steps = max(round(seen / (batch_size * context)), 1)
  # Token embeddings must not have more parameters than the blocks.
  tokens = 2 ** int(math.log2(max(12 * layers * width, 1)))
  return Proposal(
    layers,
    width,
    width // (32 if width % 64 else 64),
    min(max(tokens, 512), 32768),
    context,
    batch_size,
    steps,
  )


def describe(n_tokens: int, minutes: float, gflops: float) -> str:
  """Describes the proposal for a text, in two lines.

  Args:
    n_tokens: of the training text.
    minutes: of training; 0 stands for as many as the text is worth.
    gflops: speed of matmuls on this machine, GFLOP/s.
  """
  found = propose(n_tokens, minutes * 60 * gflops * 1e9 or math.inf)
  takes = 6 * found.n_parameters * found.n_tokens / (gflops * 1e9) / 60
  flags = ' '.join(f'--{name}={v}' for name, v in found._asdict().items())
  return (
    f'rule of thumb for {n_tokens:,} tokens: {found.n_parameters:,} parameters '
    f'in blocks, {found.n_tokens / n_tokens:.1f} passes over the text, '
    f'{takes:,.1f} min at {gflops:g} GFLOP/s; as flags (--vocab_size only with '
    f'--tokenizer=bpe):\n  {flags}'
  )
