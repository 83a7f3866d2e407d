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
from minigpt.training.validation import compiled_eval_step, evaluate_batches

# Tokens that are decoded together: enough to be fast, few enough for memory.
_DECODED_AT_ONCE = 100_000
_LARGEST_LOSS = 700  # exp of more is no float64.


def evaluate_text(
  model: LoadedModel,
  tokens: Tokens,
  window: int,
  stride: int,
  watch: Watch = unwatched,
) -> dict[str, Any]:
  """Returns loss, perplexity, bits per byte and accuracy of a text.

  Every token but the first is scored once, in a window of `window` tokens of
  which only the last `stride` are new. The recipe of transformers' guide to
  perplexity takes one token fewer: its max_length is `window + 1`.

  Args:
    model: weights as variables, or XLA copies them into its program.
    tokens: int [N], N at least 2.
    window: tokens that the model looks back on, at most its context.
    stride: 1 to `window`; the smaller, the more context each token has.
    watch: shows how far it has come.
  """
  batch_size = max(1, TOKENS_PER_BATCH // window)
  n_windows = len(eval_starts(len(tokens), window, stride))
  batches = eval_batches(tokens, window, batch_size, stride)
  step = compiled_eval_step(model.weights, model.config, 'float32')
  found = evaluate_batches(
    step, watch(batches, math.ceil(n_windows / batch_size))
  )
  n_scored = len(tokens) - 1
  n_bytes = _count_bytes(model, tokens[1:])
  return {
    'loss': found.loss,
    'perplexity': math.exp(min(found.loss, _LARGEST_LOSS)),
    'bits_per_byte': found.loss * n_scored / n_bytes / math.log(2),
    'accuracy': found.accuracy,
    'tokens': n_scored,
    'bytes': n_bytes,
  }


def _count_bytes(model: LoadedModel, tokens: Tokens) -> int:
  starts = range(0, len(tokens), _DECODED_AT_ONCE)
  parts = (tokens[i : i + _DECODED_AT_ONCE] for i in starts)
  return sum(len(model.tokenizer.decode_bytes(np.asarray(p))) for p in parts)
