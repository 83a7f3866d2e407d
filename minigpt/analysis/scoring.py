"""Scores continuations: the log-probability of a text's end.

Shapes: B rows, T tokens, N texts.
"""

import contextlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from minigpt.checkpoints.loading import LoadedModel
from minigpt.compiler import jit
from minigpt.config import GPTConfig
from minigpt.data.batches import EvalBatch
from minigpt.errors import InputError
from minigpt.generation.generator import bucket
from minigpt.model.layers import cross_entropy
from minigpt.model.params import Params
from minigpt.model.transformer import gpt
from minigpt.tokenizers import Tokenizer, encode_prompt

# Wraps an iterable to show progress; arguments: the iterable and its length.
Watch = Callable[[Iterable, int], Iterable]

TOKENS_PER_BATCH = 4096


def unwatched(batches: Iterable, n: int) -> Iterable:
  """Returns the batches; shows no progress."""
  return batches


class Continuation(NamedTuple):
  """A text of which only the end is scored."""

  where: str  # file and line, for error messages
  context: np.ndarray  # int32 [T]
  target: np.ndarray  # int32 [T]


class Scores(NamedTuple):
  """The scores of continuations."""

  log_prob: np.ndarray  # f64 [N], of the whole target in nats
  is_greedy: np.ndarray  # bool [N], whether greedy decoding generates it


def score(
  model: LoadedModel,
  continuations: Sequence[Continuation],
  watch: Watch = unwatched,
) -> Scores:
  """Scores each target given its context; long contexts are cut at the left.

  Args:
    model: the model, with variables for weights; XLA would copy arrays into
      its programs.
    continuations: N of them, of any lengths.
    watch: shows the progress.

  Raises:
    InputError: a target alone is longer than the model's context.
  """
  longest = model.config.context_length + 1
  for c in continuations:
    if len(c.target) >= longest:
      raise InputError(
        f'{c.where}: its ending has {len(c.target)} tokens, the context only '
        f'{longest - 1}; leave it out'
      )
  step = _compiled_score_step(model.weights, model.config)
  log_prob = np.zeros(len(continuations))
  is_greedy = np.zeros(len(continuations), bool)
  groups = _group_by_width(continuations, longest)
  for places in watch(groups, len(groups)):
    batch = _make_batch([continuations[i] for i in places], longest)
    # Drop the results of rows that only fill the batch.
    found = [part.numpy()[: len(places)] for part in step(*batch)]
    log_prob[places], is_greedy[places] = found
  return Scores(log_prob, is_greedy)


def _compiled_score_step(p: Params, config: GPTConfig) -> Any:
  @jit.compiled
  def score_step(windows, weights):  # int [B, T + 1], f32 [B, T] -> [B], [B]
    logits = gpt(windows[:, :-1], p, config)
    targets = windows[:, 1:]
    log_prob = -tf.reduce_sum(weights * cross_entropy(logits, targets), -1)
    hits = tf.equal(tf.argmax(logits, -1, targets.dtype), targets)
    return log_prob, tf.reduce_all(hits | (weights == 0), -1)

  return score_step


def _width(continuation: Continuation, longest: int) -> int:
  """Returns the width T of the batch for a continuation."""
  n = len(continuation.context) + len(continuation.target)
  return bucket(min(n, longest) - 1, longest - 1)


def _group_by_width(
  continuations: Sequence[Continuation], longest: int
) -> list[list[int]]:
  """Groups continuations of similar length into batches; returns indices."""
  by_width: dict[int, list[int]] = {}
  for i, continuation in enumerate(continuations):
    by_width.setdefault(_width(continuation, longest), []).append(i)
  return [
    places[i : i + _n_rows(width)]
    for width, places in sorted(by_width.items())
    for i in range(0, len(places), _n_rows(width))
  ]


def _n_rows(width: int) -> int:
  return max(1, TOKENS_PER_BATCH // width)


def _make_batch(rows: list[Continuation], longest: int) -> EvalBatch:
  """Returns windows whose weights are 1 at the targets, 0 elsewhere."""
  width = _width(rows[0], longest)
  windows = np.zeros([_n_rows(width), width + 1], np.int32)
  weights = np.zeros([_n_rows(width), width], np.float32)
  for i, row in enumerate(rows):
    ids = np.concatenate([row.context, row.target])[-longest:]
    windows[i, : len(ids)] = ids
    # Position t of the weights belongs to token t + 1 of the window.
    weights[i, len(ids) - 1 - len(row.target) : len(ids) - 1] = 1
  return EvalBatch(windows, weights)


def encode(tokenizer: Tokenizer, where: str, text: str) -> np.ndarray:
  """Returns the tokens of a text, int32 [T].

  Raises:
    InputError: the text is not in the vocabulary; the message names `where`.
  """
  with _located(where):
    return tokenizer.encode(text)


@contextlib.contextmanager
def _located(where: str) -> Iterator[None]:
  """Puts `where` before the message of an InputError."""
  try:
    yield
  except InputError as error:
    raise InputError(f'{where}: {error}') from None


def encode_context(tokenizer: Tokenizer, where: str, text: str) -> np.ndarray:
  """Returns the tokens before a target, int32 [T], T at least 1.

  Raises:
    InputError: as in `tokenizers.encode_prompt`; the message names `where`.
  """
  with _located(where):
    return encode_prompt(tokenizer, text)
