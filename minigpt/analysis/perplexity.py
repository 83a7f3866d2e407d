"""Perplexity, bits per byte and accuracy on running text.

Shapes: N tokens in all.
"""

import math
from typing import Any

import numpy as np

from minigpt.analysis.scoring import TOKENS_PER_BATCH, Watch, unwatched
from minigpt.checkpoints.loading import LoadedModel
from minigpt.data.batches import eval_batches, eval_starts
from minigpt.data.token_shards import Tokens
from minigpt.tokenizers import Tokenizer
from minigpt.training.validation import compiled_eval_step, evaluate_batches

_COUNTED_AT_ONCE = 1 << 20  # Tokens; more would take much memory.
_LARGEST_LOSS = 700  # exp of more is no float64.


def evaluate_text(
  model: LoadedModel,
  tokens: Tokens,
  window: int,
  stride: int,
  watch: Watch = unwatched,
  n_bytes: int | None = None,
) -> dict[str, Any]:
  """Returns loss, perplexity, bits per byte and accuracy of a text.

  Every token but the first is scored once, in a window of `window` tokens of
  which only the last `stride` are new (transformers' max_length less 1).

  Args:
    model: weights as variables, or XLA copies them into its program.
    tokens: int [N], N at least 2.
    window: tokens that the model looks back on, at most its context.
    stride: 1 to `window`; the smaller, the more context each token has.
    watch: shows how far it has come.
    n_bytes: of the text after the first token; None counts those of the tokens.
      Where some are unknown, bits per byte are None.
  """
  batch_size = max(1, TOKENS_PER_BATCH // window)
  n_windows = len(eval_starts(len(tokens), window, stride))
  batches = eval_batches(tokens, window, batch_size, stride)
  step = compiled_eval_step(model.weights, model.config, 'float32')
  n_batches = math.ceil(n_windows / batch_size)
  found = evaluate_batches(step, watch(batches, n_batches))
  n_scored = len(tokens) - 1
  if n_bytes is None:
    n_bytes = count_bytes(model.tokenizer, tokens, first=1)
  nats = found.loss * n_scored
  return {
    'loss': found.loss,
    'perplexity': math.exp(min(found.loss, _LARGEST_LOSS)),
    'bits_per_byte': nats / n_bytes / math.log(2) if n_bytes else None,
    'accuracy': found.accuracy,
    'tokens': n_scored,
    'bytes': n_bytes,
  }


def count_bytes(
  tokenizer: Tokenizer, tokens: Tokens, first: int = 0
) -> int | None:
  """Returns the bytes of text that tokens from `first` on stand for.

  An end of text is none of it. None where a token is unknown: the text that
  it stands for is not kept.
  """
  sizes = np.array(list(map(len, tokenizer.tokens)))
  if tokenizer.end_of_text is not None:
    sizes[tokenizer.end_of_text] = 0
  n_bytes = 0
  for start in range(first, len(tokens), _COUNTED_AT_ONCE):
    part = np.asarray(tokens[start : start + _COUNTED_AT_ONCE])
    if tokenizer.unknown is not None and np.any(part == tokenizer.unknown):
      return None
    n_bytes += int(np.sum(sizes[part]))
  return n_bytes
