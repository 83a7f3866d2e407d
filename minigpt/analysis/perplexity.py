"""Perplexity, bits per byte and accuracy on running text.

Shapes: N tokens in all, B batch, T tokens in each window.
"""

import math
from collections.abc import Iterable
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from minigpt.analysis.scoring import TOKENS_PER_BATCH, Watch, unwatched
from minigpt.checkpoints.loading import LoadedModel
from minigpt.compiler import jit
from minigpt.data.batches import EvalBatch, eval_batches, eval_starts
from minigpt.data.token_shards import Tokens
from minigpt.tokenizers import Tokenizer
from minigpt.training.validation import (
  Evaluation,
  compiled_eval_step,
  evaluate_batches,
  score_tokens,
)

_COUNTED_AT_ONCE = 1 << 20  # Tokens whose bytes are counted at a time.
_LARGEST_LOSS = 700  # exp of a larger loss overflows float64.


class PositionSums(NamedTuple):
  """Sums over the tokens at each position of their windows, f64 [T] each.

  A token at position t is scored after the t + 1 tokens before it.
  """

  loss: np.ndarray  # nats
  squared_loss: np.ndarray
  hits: np.ndarray  # tokens that the model rated the most likely
  n_tokens: np.ndarray

  def evaluation(self) -> Evaluation:
    """Returns the means over all positions."""
    n = self.n_tokens.sum()
    return Evaluation(float(self.loss.sum() / n), float(self.hits.sum() / n))


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
  which only the last `stride` are new; `window` is the max_length of
  `transformers` less 1.

  Args:
    model: the model, with variables for weights; XLA would copy arrays into
      its program.
    tokens: int [N], N at least 2.
    window: length of the windows, at most the model's context.
    stride: 1 to `window`; a smaller one gives each token more context.
    watch: shows the progress.
    n_bytes: bytes of the text after the first token; None counts them from the
      tokens. If a token is unknown, the count and bits per byte are None.
  """
  step = compiled_eval_step(model.weights, model.config, 'float32')
  found = evaluate_batches(step, _batches(tokens, window, stride, watch))
  return _describe(model, tokens, found, n_bytes)


def evaluate_positions(
  model: LoadedModel,
  tokens: Tokens,
  window: int,
  stride: int,
  watch: Watch = unwatched,
  n_bytes: int | None = None,
) -> tuple[dict[str, Any], PositionSums]:
  """Returns the result of `evaluate_text`, and its sums by position."""
  step = _compiled_position_step(model)
  sums = np.zeros([len(PositionSums._fields), window])
  for batch in _batches(tokens, window, stride, watch):
    sums += step(*batch).numpy()
  found = PositionSums(*sums)
  return _describe(model, tokens, found.evaluation(), n_bytes), found


def _compiled_position_step(model: LoadedModel) -> Any:
  @jit.compiled
  def position_step(windows, weights):  # int [B, T + 1], [B, T] -> [4, T]
    loss, hits = score_tokens(windows, model.weights, model.config)
    per_token = loss, tf.square(loss), hits, 1.0
    return tf.stack([tf.reduce_sum(weights * part, 0) for part in per_token])

  return position_step


def _batches(
  tokens: Tokens, window: int, stride: int, watch: Watch
) -> Iterable[EvalBatch]:
  """Returns the batches that score a text, wrapped in `watch`."""
  batch_size = max(1, TOKENS_PER_BATCH // window)
  n_windows = len(eval_starts(len(tokens), window, stride))
  batches = eval_batches(tokens, window, batch_size, stride)
  return watch(batches, math.ceil(n_windows / batch_size))


def _describe(
  model: LoadedModel, tokens: Tokens, found: Evaluation, n_bytes: int | None
) -> dict[str, Any]:
  """Returns the results by the names under which they are shown."""
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
  """Returns how many bytes of text the tokens from `first` on stand for.

  An end-of-text token has no bytes. The result is None if a token is the
  unknown one, as the text behind it is lost.
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
