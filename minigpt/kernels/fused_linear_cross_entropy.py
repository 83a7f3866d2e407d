"""A loss of many rows, and its gradient, in the memory of a few rows.

A gradient tape keeps the scores of all rows, and what the loss was made of,
until the backward pass. Here each chunk of rows has its scores, its loss and
the gradient of both in one go, so that all chunks use the same memory.

Shapes: N rows, S scores of a row.
"""

from collections.abc import Callable

import tensorflow as tf

from minigpt.compiler import subgraphs


def chunked_loss(
  scores: Callable[[tf.Tensor, tf.Tensor], tf.Tensor],
  loss: Callable[..., tf.Tensor],
  n_chunks: int,
  x: tf.Tensor,
  w: tf.Tensor,
  *rest: tf.Tensor,
  keep: bool = False,
) -> tf.Tensor:  # [N, ...], [...], [N, ...] -> []
  """The sum of `loss(scores(x, w), *rest)` over chunks of the N rows.

  Args:
    scores: of x [n, ...] and w, [n, S]; linear in both.
    loss: of scores and what belongs to their rows, []. It must be 0 for a row
      where `rest` is 0, as the last chunk is filled up with such rows.
    x, w: what has a gradient.
    rest: belongs to the rows of x, and has no gradient.
    keep: the gradient of all scores, [N, S], for one product with all of x.
      Otherwise the gradient of w is summed in f32, chunk by chunk.
  """
  size = -(-x.shape[0] // n_chunks)
  rest = [_cut(part, n_chunks, size) for part in rest]

  def part_of(made, i):  # The loss of a chunk, and the gradient of its scores.
    with tf.GradientTape() as tape:
      tape.watch(made)
      one = loss(made, *(r[i] for r in rest))
    return one, tape.gradient(one, made)

  @tf.custom_gradient
  def total(x, w):
    make = _kept if keep else _summed
    all_, dx, dw = make(scores, part_of, n_chunks, _cut(x, n_chunks, size), w)
    dx = tf.reshape(dx, [n_chunks * size, *x.shape[1:]])[: x.shape[0]]
    return all_, lambda d: (
      tf.cast(d, x.dtype) * dx,
      tf.cast(tf.cast(d, dw.dtype) * dw, w.dtype),
    )

  return total(x, tf.convert_to_tensor(w))


@subgraphs.apart
def plus(total: tf.Tensor, x: tf.Tensor) -> tf.Tensor:
  """Adds in the precision of the total."""
  return total + tf.cast(x, total.dtype)


def _cut(x, n_chunks, size):  # [N, ...] -> [chunks, size, ...]
  room = n_chunks * size - x.shape[0]
  filled = tf.pad(x, [[0, room], *[[0, 0]] * (len(x.shape) - 1)])
  return tf.reshape(filled, [n_chunks, size, *x.shape[1:]])


def _scored(scores, x, w):
  """Scores, and what makes of their gradient those of x and w."""
  with tf.GradientTape() as tape:
    tape.watch([x, w])
    made = scores(x, w)
  return made, lambda d: tape.gradient(made, [x, w], d)


def _summed(scores, part_of, n_chunks, x, w):
  """The loss, its gradient for each chunk of x, and that for w in f32."""

  def add(i, total, dw, dx):
    made, gradients = _scored(scores, x[i], w)
    one, d = part_of(made, i)
    d_part, d_w = gradients(d)
    return i + 1, total + one, plus(dw, d_w), dx.write(i, d_part)

  *_, total, dw, dx = _loop(add, n_chunks, x.dtype, tf.zeros(w.shape))
  return total, dx.stack(), dw


def _kept(scores, part_of, n_chunks, x, w):
  """As `_summed`, but each gradient is one product over all rows."""

  def add(i, total, d_scores):
    one, d = part_of(scores(x[i], w), i)
    return i + 1, total + one, d_scores.write(i, d)

  _, total, d_scores = _loop(add, n_chunks, x.dtype)
  # Nobody asks for these scores themselves: XLA leaves their product out.
  _, gradients = _scored(scores, tf.reshape(x, [-1, *x.shape[2:]]), w)
  return total, *gradients(d_scores.concat())


def _loop(add, n_chunks, dtype, *sums):
  parts = tf.TensorArray(dtype, n_chunks)
  start = (0, tf.zeros([]), *sums, parts)
  return tf.while_loop(
    lambda i, *_: i < n_chunks, add, start, parallel_iterations=1
  )
