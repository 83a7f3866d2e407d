"""Products of floats, in the form that is fast where they are traced for.

Shapes: M rows, N columns, K what is summed over; `...` alike in both factors.
"""

import tensorflow as tf

from minigpt.compiler import backend
from minigpt.kernels import onednn_matmul

# Below them, a product takes as long as reading its weights does.
_FEW_ROWS = 16


def product(
  a: tf.Tensor,
  b: tf.Tensor,
  transpose_a: bool = False,
  transpose_b: bool = False,
) -> tf.Tensor:  # [..., M, K], [..., K, N] -> [..., M, N]
  """`tf.matmul`, under XLA with oneDNN's products among its own."""
  if not (_has_choice() and _is_known(a) and _is_known(b)):
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

    by = onednn_matmul.matmul if by_onednn(a.dtype, transpose_a) else tf.matmul
    return by(a, b, transpose_a, transpose_b), gradient

  return multiply(a, b)


def by_onednn(dtype: tf.DType, transpose_a: bool = False) -> bool:
  """Whether what is traced had better leave such products to oneDNN.

  XLA multiplies bfloat16 at the speed of f32. In f32 it is as fast as oneDNN
  where it reads the first factor as it lies: in all but the gradients of
  weights, and of keys and values.
  """
  is_bfloat16 = dtype == tf.bfloat16
  suits = backend.has_bfloat16_units() if is_bfloat16 else transpose_a
  return suits and _has_choice()


def _has_choice():
  return backend.runs_here() and onednn_matmul.available()


def _is_known(x):
  return x.shape.is_fully_defined()


def suits_few(n_rows: int | None, dtype: tf.DType) -> bool:
  """Whether weights should come first in a product with so few rows.

  `w x'` reads w as it lies; for `x w'` all kinds of kernel but oneDNN's, as
  XLA calls it, rearrange it. XLA multiplies a single row in a loop of its own,
  whichever way.
  """
  fewest = 2 if backend.mode() == 'xla' else 1
  return fewest <= (n_rows or 1) < _FEW_ROWS and not by_onednn(dtype)
