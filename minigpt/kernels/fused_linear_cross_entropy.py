"""The loss and its gradient in chunks of rows, to save memory.

Why: logits are the largest tensor of a training step. GPT-2 has 206 MB of them
for 1,024 tokens, and a tape keeps several copies until the backward pass. Here,
each chunk of rows computes its logits, its loss and the gradient of both before
the next chunk begins, so that all chunks use the same memory.

For: all compiled backends, if the logits are large.

Measured on 2 cores of Zen 5, GPT-2 124M: if there are few rows, keeping the
gradient of all logits for one matmul saves 5% of a float32 step and 65 MiB;
docs/design/performance_notes.md. `minigpt bench --what=train` prints time and
memory.

Shapes: N rows, D features, S scores of a row.
"""

from collections.abc import Callable

import tensorflow as tf

from minigpt.compiler.backend import COMPILED, current
from minigpt.config import GPTConfig
from minigpt.kernels.elementwise import accumulate
from minigpt.model.layers import cross_entropy
from minigpt.model.loss import linear_cross_entropy
from minigpt.model.params import Params, is_absent
from minigpt.model.transformer import unembed

# Bytes of a chunk's float32 logits, of which several copies exist.
LOGITS_BYTES = 64 << 20
# Each chunk reads and writes the gradient of the head, so more chunks would be
# slower. Large batches need much other memory, so larger chunks matter little.
MOST_CHUNKS = 8


@linear_cross_entropy.implementation(*COMPILED)
def fused_linear_cross_entropy(
  hidden: tf.Tensor,
  targets: tf.Tensor,
  weights: tf.Tensor,
  p: Params,
  config: GPTConfig,
) -> tf.Tensor:  # [B, T, D], int [B, T], f32 [B, T] -> []
  """Sums weighted cross entropies in chunks of `LOGITS_BYTES` at most.

  There are at most `MOST_CHUNKS` chunks; if they do not suffice, each is
  larger.
  """

  def scores(x, head):
    return unembed(x, p._replace(head=head), config)

  def loss(scores, targets, weights):
    return tf.reduce_sum(weights * cross_entropy(scores, targets))

  x = tf.reshape(hidden, [-1, config.emb_dim])
  head = p.wte if is_absent(p.head) else p.head
  rest = tf.reshape(targets, [-1]), tf.reshape(weights, [-1])
  n_chunks = -(-4 * x.shape[0] * config.vocab_size // LOGITS_BYTES)
  n_chunks = min(n_chunks, MOST_CHUNKS)
  if n_chunks == 1:
    return loss(scores(x, head), *rest)
  keep = _keeps_gradient(x)
  return chunked_loss(scores, loss, n_chunks, x, head, *rest, keep=keep)


def _keeps_gradient(x):  # [N, D]
  """Tells whether to keep the gradient of all logits: if that saves memory.

  It is compared with what the other way needs: a chunk's gradient of the head,
  and the float32 sum of these over chunks. TensorFlow's kernels, unlike XLA,
  would copy the gradient of the logits.
  """
  n_rows, emb_dim = x.shape
  is_smaller = x.dtype.size * n_rows <= (x.dtype.size + 4) * emb_dim
  return is_smaller and current().is_whole_xla


def chunked_loss(
  scores: Callable[[tf.Tensor, tf.Tensor], tf.Tensor],
  loss: Callable[..., tf.Tensor],
  n_chunks: int,
  x: tf.Tensor,
  w: tf.Tensor,
  *rest: tf.Tensor,
  keep: bool = False,
) -> tf.Tensor:  # [N, ...], [...], [N, ...] -> []
  """Sums `loss(scores(x, w), *rest)` over chunks of the N rows.

  Args:
    scores: a function of x [n, ...] and w, linear in both, to scores [n, S].
    loss: a function of scores and the parts of `rest` for their rows, to [].
      It must be 0 for rows where `rest` is 0: such rows fill the last chunk.
    x: the rows; they get a gradient, as does w.
    *rest: further tensors by row, without gradient.
    keep: keep the gradient of all scores, [N, S], for one matmul with x.
      Otherwise sum the gradient of w in float32, chunk by chunk.
  """
  size = -(-x.shape[0] // n_chunks)
  parts = [_cut(part, n_chunks, size) for part in rest]

  def part_of(made, i):  # Returns a chunk's loss and gradient of its scores.
    with tf.GradientTape() as tape:
      tape.watch(made)
      one = loss(made, *(part[i] for part in parts))
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


def _cut(x, n_chunks, size):  # [N, ...] -> [chunks, size, ...]
  room = n_chunks * size - x.shape[0]
  filled = tf.pad(x, [[0, room], *[[0, 0]] * (len(x.shape) - 1)])
  return tf.reshape(filled, [n_chunks, size, *x.shape[1:]])


def _scored(scores, x, w):
  """Returns scores, and a function from their gradient to those of x and w."""
  with tf.GradientTape() as tape:
    tape.watch([x, w])
    made = scores(x, w)
  return made, lambda d: tape.gradient(made, [x, w], d)


def _summed(scores, part_of, n_chunks, x, w):
  """Returns the loss, and its gradients by x and w; sums that by w."""

  def add(i, total, dw, dx):
    made, gradients = _scored(scores, x[i], w)
    one, d = part_of(made, i)
    d_part, d_w = gradients(d)
    return i + 1, total + one, accumulate(dw, d_w), dx.write(i, d_part)

  *_, total, dw, dx = _loop(add, n_chunks, x.dtype, tf.zeros(w.shape))
  return total, dx.stack(), dw


def _kept(scores, part_of, n_chunks, x, w):
  """Computes `_summed` with one matmul over all rows for each gradient."""

  def add(i, total, d_scores):
    one, d = part_of(scores(x[i], w), i)
    return i + 1, total + one, d_scores.write(i, d)

  _, total, d_scores = _loop(add, n_chunks, x.dtype)
  # The scores of this call are unused, so XLA removes their matmul.
  _, gradients = _scored(scores, tf.reshape(x, [-1, *x.shape[2:]]), w)
  return total, *gradients(d_scores.concat())


def _loop(add, n_chunks, dtype, *sums):
  parts = tf.TensorArray(dtype, n_chunks)
  start = (0, tf.zeros([]), *sums, parts)
  return tf.while_loop(
    lambda i, *_: i < n_chunks, add, start, parallel_iterations=1
  )
