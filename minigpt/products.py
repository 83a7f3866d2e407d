"""Products by the units that a processor has for few bits, under XLA, too.

On a CPU, XLA multiplies bfloat16 as it does float32, at its speed, but for
what it hands to YNNPACK: products whose sums stay float32, of factors that lie
in memory row by row (XLA: backends/cpu/ynn_support.cc). That is what it is
asked for here. TensorFlow's kernels, and other devices, need no such help.

Shapes: M rows, N columns, K what is summed over; `...` alike in both factors.
"""

import tensorflow as tf
from tensorflow.compiler.tf2xla.ops import gen_xla_ops

from minigpt import lowering

# Below them, a product takes as long as reading its weights does.
_FEW_ROWS = 16


def product(
  a: tf.Tensor,
  b: tf.Tensor,
  transpose_a: bool = False,
  transpose_b: bool = False,
) -> tf.Tensor:  # [..., M, K], [..., K, N] -> [..., M, N]
  """`tf.matmul`, in the form that is fast where it is traced for."""
  if not _helps(a, b):
    return tf.matmul(a, b, transpose_a, transpose_b)

  @tf.custom_gradient
  def multiply(a, b):
    def gradient(dy):
      if transpose_a:
        da = product(b, dy, transpose_b, True)
      else:
        da = product(dy, b, False, not transpose_b)
      if transpose_b:
        db = product(dy, a, True, transpose_a)
      else:
        db = product(a, dy, not transpose_a, False)
      return da, db

    return _summed_in_float32(a, b, transpose_a, transpose_b), gradient

  return multiply(a, b)


def _helps(a, b):
  return (
    a.dtype == tf.bfloat16
    and lowering.multiplies_bfloat16()
    and a.shape.is_fully_defined()
    and b.shape.is_fully_defined()
  )


def _summed_in_float32(a, b, transpose_a, transpose_b):
  a, b = _laid_out(a, transpose_a), _laid_out(b)
  *leading, n_rows, _ = a.shape
  if len(leading) > 1:
    # What splits heads is a transpose as well; a reshape of it is none.
    a, b = (tf.reshape(x, [-1, *x.shape[-2:]]) for x in (a, b))
  y = tf.matmul(a, b, transpose_b=transpose_b, output_type=tf.float32)
  return tf.cast(tf.reshape(y, [*leading, n_rows, y.shape[-1]]), tf.bfloat16)


def _laid_out(x, transposed=False):
  """`x`, or `x'`, in memory before it is multiplied.

  Of a factor that is a transpose, XLA would give up the units; of one that has
  become a transpose since, because one moved past what made it, the product.
  """
  if not transposed:
    return _barrier(x)
  # Or what makes `x` would be computed column by column.
  x = lowering.once(x)
  y = _barrier(tf.linalg.matrix_transpose(x[None]))
  return tf.reshape(y, y.shape[1:])


def _barrier(x):
  return gen_xla_ops.xla_optimization_barrier([x])[0]


def suits_few(n_rows: int | None) -> bool:
  """Whether weights should come first in a product with so few rows.

  `w x'` reads w as it lies; for `x w'` all kinds of kernel rearrange it. XLA
  multiplies a single row in a loop of its own, whichever way.
  """
  fewest = 2 if lowering.mode() == 'xla' else 1
  return fewest <= (n_rows or 1) < _FEW_ROWS
