"""Batches: training batches depend on (seed, step), evaluation is in order.

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
  """Yields the batches for each range of steps; reads two ranges ahead.

  Args:
    examples: windows or packed examples.
    batch_shape: (A, B), accumulated gradients and examples in each.
    seed: determines the order.
    calls: the steps of each call of the training program, at most
      `call_length`; a shorter range is padded with batches that are not used.
    call_length: K.
    skipped: indices of batches that no step uses.

  Yields:
    int32 [K, A, B, T + 1] for each range; a `PackedBatch` of such arrays for
    packed examples.
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
  """Calls `read` with each number in another thread, two results ahead."""
  failures: list[InputError] = []

  def guarded(first: int) -> list[np.ndarray]:
    try:
      return read(first)
    except InputError as error:
      failures.append(error)
      raise

  options = tf.data.Options()
  # Autotuning has nothing to tune here, and its thread sleeps for up to a
  # minute at a time: the end of the iterator would wait until it wakes.
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
    # TensorFlow wraps the error in one of its own.
    if failures:
      raise failures[0] from None
    raise


def batch_numbers(steps: np.ndarray, skipped: Sequence[int]) -> np.ndarray:
  """Returns the index of each step's batch: step s has the s-th not skipped.

  Args:
    steps: int64 [K].
    skipped: indices of batches that no step uses.
  """
  for batch in sorted(skipped):
    steps = steps + (batch <= steps)
  return steps


class EvalBatch(NamedTuple):
  """Windows to score, with a weight for each target token."""

  windows: np.ndarray  # int32 [B, T + 1]
  weights: np.ndarray  # float32 [B, T]; 0 where a window runs past the end


def eval_starts(n_tokens: int, context_length: int, stride: int) -> np.ndarray:
  """Returns the starts of the windows that score `n_tokens` tokens."""
  return np.arange(0, max(n_tokens - 1 - context_length, 0) + stride, stride)


def evenly_spread(n: int, limit: int) -> np.ndarray:
  """Returns `limit` of the numbers below `n`, evenly spread.

  Args:
    n: the numbers are 0 to n - 1.
    limit: how many to return; 0: all.
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
  """Yields windows that together score every token but the first once.

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
    # A window scores only tokens that the window before it did not score.
    is_new = (places[:, 1:] > first[:, None] + t - stride) | (
      places[:, :1] == 0
    )
    yield EvalBatch(
      tokens[np.minimum(places, n - 1)].astype(np.int32),
      ((places[:, 1:] < n) & is_new).astype(np.float32),
    )
