"""Evaluation: loss and accuracy of a model on a text.

Shapes: B batch, T context.
"""

import math
from collections.abc import Callable, Iterable
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from minigpt.compiler import backend, jit
from minigpt.config import GPTConfig
from minigpt.data.batches import EvalBatch, eval_batches
from minigpt.data.sequence_packing import PackedBatch
from minigpt.data.token_shards import Tokens
from minigpt.model.layers import cross_entropy
from minigpt.model.params import Params, cast
from minigpt.model.transformer import gpt


class Evaluation(NamedTuple):
  """Means over all tokens that were scored."""

  loss: float  # nats per token
  accuracy: float  # share of tokens that the model rated the most likely


class EvalHistory(NamedTuple):
  """The evaluations of a run so far."""

  best_loss: float = math.inf
  n_worse: int = 0  # evaluations since the best one

  def after(self, loss: float) -> 'EvalHistory':
    """Returns the history after one more evaluation."""
    n_worse = 0 if loss < self.best_loss else self.n_worse + 1
    return EvalHistory(min(self.best_loss, loss), n_worse)


def score_tokens(
  windows: tf.Tensor,
  p: Params,
  config: GPTConfig,
  segments: tf.Tensor | None = None,
) -> tuple[tf.Tensor, tf.Tensor]:  # int [B, T + 1] -> [B, T], [B, T]
  """Returns each token's loss, and 1 if the model rated it the most likely."""
  logits = gpt(windows[:, :-1], p, config, segments=segments)
  targets = windows[:, 1:]
  hits = tf.equal(tf.argmax(logits, -1, targets.dtype), targets)
  return cross_entropy(logits, targets), tf.cast(hits, tf.float32)


def compiled_eval_step(
  params: Params, config: GPTConfig, compute_dtype: str, compile: str = 'auto'
) -> tf.types.experimental.PolymorphicFunction:
  """Returns a program for sums over a batch: loss, hits, number of tokens."""

  def eval_step(windows, weights, segments=None):  # [B, T + 1], [B, T] -> [3]
    p = cast(params, compute_dtype)
    per_token = (*score_tokens(windows, p, config, segments), 1.0)
    return tf.stack([tf.reduce_sum(weights * part) for part in per_token])

  return jit.compiled(eval_step, backend.resolve_mode(compile, compute_dtype))


def evaluate(
  eval_step: tf.types.experimental.PolymorphicFunction,
  tokens: Tokens,
  context_length: int,
  batch_size: int,
  stride: int = 0,
  limit: int = 0,
) -> Evaluation:
  """Scores the tokens; see `data.batches.eval_batches` for the arguments."""
  return evaluate_batches(
    eval_step, eval_batches(tokens, context_length, batch_size, stride, limit)
  )


def evaluate_batches(
  eval_step: tf.types.experimental.PolymorphicFunction,
  batches: Iterable[EvalBatch | PackedBatch],
  reduce_sum: Callable[[np.ndarray], np.ndarray] = np.asarray,
) -> Evaluation:
  """Scores the batches.

  Args:
    eval_step: what `compiled_eval_step` returned.
    batches: the batches that this process scores.
    reduce_sum: adds the sums of all processes.
  """
  sums = np.zeros(3)
  for batch in batches:
    sums += eval_step(*batch).numpy()
  loss, hits, n_tokens = reduce_sum(sums)
  return Evaluation(float(loss / n_tokens), float(hits / n_tokens))


def eval_batch_size(batch_size: int, context_length: int) -> int:
  """Returns a batch size for evaluation: no activations are kept, so larger."""
  return max(batch_size, 4096 // context_length)
