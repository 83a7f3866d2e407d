"""A sum over many rows, and its gradient, in the memory of a few rows.

A gradient tape keeps what every row's share of a sum was made of until the
backward pass. Here each chunk of rows makes its share and the gradient of it
in one go, so that all chunks use the same memory and nothing is computed twice.
"""

from collections.abc import Callable

import tensorflow as tf

from minigpt import lowering

# A share of the sum, [], from a chunk of rows: x [n, ...], w, and what belongs
# to the rows.
Share = Callable[..., tf.Tensor]


def chunked_sum(
  share: Share, n_chunks: int, x: tf.Tensor, w: tf.Tensor, *rest: tf.Tensor
) -> tf.Tensor:  # [N, ...], [...], [N, ...] -> []
  """The sum of `share(x, w, *rest)` over chunks of the N rows.

  Args:
    share: must give 0 for a row where `x` and `rest` are 0, as the last chunk
      is filled up with such rows.
    x, w: what has a gradient; that of `w` is summed in f32.
    rest: belongs to the rows of x, and has no gradient.
  """
  size = -(-x.shape[0] // n_chunks)
  rest = [_cut(part, n_chunks, size) for part in rest]

  @tf.custom_gradient
  def total(x, w):
    loss, dx, dw = _loop(share, _cut(x, n_chunks, size), w, rest)
    dx = tf.reshape(dx, [n_chunks * size, *x.shape[1:]])[: x.shape[0]]
    return loss, lambda d: (
      tf.cast(d, x.dtype) * dx,
      tf.cast(d * dw, w.dtype),
    )

  return total(x, tf.convert_to_tensor(w))


@lowering.apart
def plus(total: tf.Tensor, x: tf.Tensor) -> tf.Tensor:
  """Adds in the precision of the total."""
  return total + tf.cast(x, total.dtype)


def _cut(x, n_chunks, size):  # [N, ...] -> [chunks, size, ...]
  room = n_chunks * size - x.shape[0]
  filled = tf.pad(x, [[0, room], *[[0, 0]] * (len(x.shape) - 1)])
  return tf.reshape(filled, [n_chunks, size, *x.shape[1:]])


def _loop(share, x, w, rest):
  """The sum, its gradient for each chunk of x, and that for w in f32."""
  n_chunks, *chunk_shape = x.shape

  def add(i, loss, dx, dw):
    part = x[i]
    with tf.GradientTape() as tape:
      tape.watch([part, w])
      one = share(part, w, *(r[i] for r in rest))
    d_part, d_w = tape.gradient(one, [part, w])
    return i + 1, loss + one, dx.write(i, d_part), plus(dw, d_w)

  start = (
    0,
    tf.zeros([]),
    tf.TensorArray(x.dtype, n_chunks, element_shape=chunk_shape),
    tf.zeros(w.shape),
  )
  _, loss, dx, dw = tf.while_loop(
    lambda i, *_: i < n_chunks, add, start, parallel_iterations=1
  )
  return loss, dx.stack(), dw
