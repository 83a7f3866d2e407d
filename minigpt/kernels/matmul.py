"""Dense layers in the form that is fastest for each backend.

Why: with leading dimensions flattened to one, the gradient of the weights is a
single matmul instead of one for each sequence and a sum. Few rows multiply
faster with the weights first. And without barriers, XLA casts weights outside
of the loop that uses them, and repeats computations that it fuses into a
matmul.

For: all compiled backends.

Measured on 2 cores of Zen 5: docs/design/performance_notes.md, "few rows";
`minigpt bench --what=decode`.

Shapes: `...` any leading dimensions, M rows, D features, V vocabulary.
"""

import tensorflow as tf

from minigpt.compiler.backend import COMPILED, current
from minigpt.compiler.barriers import depend_on, materialize
from minigpt.kernels.elementwise import add_bias, with_leading
from minigpt.kernels.onednn_matmul import matmul, suits_few
from minigpt.kernels.quantize import InOut, quantized_linear
from minigpt.model import layers
from minigpt.model.params import Leaf, Linear, is_absent

# Up to this size of a matrix, TensorFlow's kernels are fast in either order.
_MOST_SMALL = 1 << 18


@layers.linear.implementation(*COMPILED)
def linear(x: tf.Tensor, p: Linear) -> tf.Tensor:  # [..., in] -> [..., out]
  """Computes x w + b."""
  return add_bias(_on_rows(x, p.w), p.b)


@layers.embedding_logits.implementation(*COMPILED)
def logits(
  x: tf.Tensor, table: Leaf
) -> tf.Tensor:  # [..., D], [V, D] -> [..., V]
  """Computes x w'."""
  return _on_rows(x, table, transpose_w=True)


@quantized_linear.implementation(*COMPILED)
def scaled_linear(
  x: tf.Tensor, p: Linear
) -> tf.Tensor:  # [..., in] -> [..., out]
  """Computes x w' + b, with the weights' scale applied after the matmul."""
  # XLA's matrix-vector product is slower with a bias fused into it. The scale
  # prevents the fusion; without a scale, a barrier does.
  is_transposed = not isinstance(p.w, InOut)
  y = _on_rows(x, p.w.values, is_transposed, ends=is_absent(p.w.scale))
  return add_bias(y if is_absent(p.w.scale) else y * p.w.scale, p.b)


def _on_rows(x, w, transpose_w=False, ends=False):
  rows = tf.reshape(x, [-1, x.shape[-1]])
  return with_leading(_matmul(rows, w, transpose_w, ends), x)


def _matmul(x, w, transpose_w, ends):
  """Multiplies matrices; with `ends`, XLA fuses nothing that follows."""
  if w.dtype != x.dtype:
    x = materialize(x)
    w = tf.cast(depend_on(tf.convert_to_tensor(w), x), x.dtype)
  if transpose_w and _is_worth_transposing(x, w):
    # Without the barrier, XLA would turn w x' back into x w'.
    return tf.transpose(materialize(matmul(w, x, transpose_b=True)))
  y = matmul(x, w, transpose_b=transpose_w)
  return materialize(y) if ends else y


def _is_worth_transposing(x, w):
  """Tells whether (w x')' is faster than x w'."""
  # oneDNN takes 50 us to transpose even a few numbers.
  is_slow = current().is_whole_xla or w.shape.num_elements() > _MOST_SMALL
  return is_slow and suits_few(x.shape[0], x.dtype)
