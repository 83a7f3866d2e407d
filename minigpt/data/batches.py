"""Batches: for training a function of (seed, step), for evaluation in order.

Shapes: N tokens in all, K steps, A accumulated gradients, B batch, T context.
"""

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from minigpt.data.token_shards import Tokens
from minigpt.data.windows import Examples, window_order
from minigpt.errors import InputError


def train_batches(
  examples: Examples,
  batch_shape: tuple[int, int],
  seed: int,
  calls: Sequence[range],
  call_length: int,
  skipped: Sequence[int] = (),
) -> Iterator[Any]:
  """Yields the examples of each range of steps, two calls ahead.

  Args:
    examples: what the batches are drawn from.
    batch_shape: (A, B), accumulated gradients and examples in each.
    seed: decides the order.
    calls: steps that one call of the train step makes, at most `call_length`;
      a shorter range is filled up with batches that it does not use.
    call_length: K.
    skipped: numbers of batches that no step uses.

  Yields:
    int32 [K, A, B, T + 1] for each range; for packed examples their arrays.
  """
  per_step = batch_shape[0] * batch_shape[1]

  def read(first: np.ndarray) -> list[np.ndarray]:
    batch = batch_numbers(first + np.arange(call_length), skipped)
    places = batch[:, None] * per_step + np.arange(per_step)
    starts = window_order(examples, places, seed)
    return tf.nest.flatten(
      examples.at(starts.reshape(call_length, *batch_shape))
    )

  like = examples.at(np.zeros([1, 1, 1], np.int64))
  dtypes = [part.dtype for part in tf.nest.flatten(like)]
  batches = _read_ahead(read, [steps.start for steps in calls], dtypes)
  return (tf.nest.pack_sequence_as(like, list(parts)) for parts in batches)


def _read_ahead(
  read: Any, firsts: list[int], dtypes: list[Any]
) -> Iterator[tuple[np.ndarray, ...]]:
  """Calls `read` with each number in a thread, two results ahead."""
  failures: list[InputError] = []

  def guarded(first: int) -> list[np.ndarray]:
    try:
      return read(first)
    except InputError as error:
      failures.append(error)
      raise

  options = tf.data.Options()
  # There is nothing to tune, and the thread that would do so sleeps for up to a
  # minute at a time: the end of the iterator often waits until it wakes.
  options.autotune.enabled = False
  numbers = tf.data.Dataset.from_tensor_slices(np.array(firsts, np.int64))
  batches = (
    numbers.map(lambda n: tuple(tf.numpy_function(guarded, [n], dtypes)))
    .prefetch(2)
    .with_options(options)
  )
  try:
    yield from batches.as_numpy_iterator()
  except tf.errors.OpError:
    # TensorFlow wraps what comes out of a thread in an error of its own.
    if failures:
      raise failures[0] from None
    raise


def batch_numbers(steps: np.ndarray, skipped: Sequence[int]) -> np.ndarray:
  """Returns the number of each step's batch: the s-th that is not skipped.

  Args:
    steps: int64 [K].
    skipped: numbers of batches that no step uses.
  """
  for batch in sorted(skipped):
    steps = steps + (batch <= steps)
  return steps


class EvalBatch(NamedTuple):
  """Windows to score; their weights say which tokens count."""

  windows: np.ndarray  # int32 [B, T + 1]
  weights: np.ndarray  # float32 [B, T]; 0 where a window runs past the end


def eval_starts(n_tokens: int, context_length: int, stride: int) -> np.ndarray:
  """Returns where the windows that score `n_tokens` begin."""
  return np.arange(0, max(n_tokens - 1 - context_length, 0) + stride, stride)


def evenly_spread(n: int, limit: int) -> np.ndarray:
  """Returns `limit` of the numbers below `n`, or all where there are fewer.

  Args:
    n: how many there are.
    limit: 0 means all.
  """
  if not limit or limit >= n:
    return np.arange(n)
  return np.linspace(0, n - 1, limit).astype(np.int64)


def eval_batches(
  tokens: Tokens,
  context_length: int,
  batch_size: int,
  stride: int = 0,
  limit: int = 0,
) -> Iterator[EvalBatch]:
  """Yields windows that together score every token but the first just once.

  Args:
    tokens: int [N].
    context_length: T.
    batch_size: B.
    stride: distance between windows, at most `context_length` (0 means that).
      A smaller one gives each token more context and takes more windows.
    limit: number of batches, evenly spread over the tokens; 0: all of them.
  """
  n, t = len(tokens), context_length
  stride = stride or t
  starts = eval_starts(n, t, stride)
  starts = starts[evenly_spread(len(starts), limit * batch_size)]
  for i in range(0, len(starts), batch_size):
    first = starts[i : i + batch_size]
    first = np.pad(first, [0, batch_size - len(first)], constant_values=n)
    places = first[:, None] + np.arange(t + 1)
    # A window that overlaps the one before scores only what that left out.
    is_new = (places[:, 1:] > first[:, None] + t - stride) | (
      places[:, :1] == 0
    )
    yield EvalBatch(
      tokens[np.minimum(places, n - 1)].astype(np.int32),
      ((places[:, 1:] < n) & is_new).astype(np.float32),
    )
