"""Muon's update (Jordan et al. 2024): a momentum made orthogonal.

https://kellerjordan.github.io/posts/muon/

Shapes: M rows, N columns of a hidden weight.
"""

import math

import tensorflow as tf

# The polynomial a s + b s^3 + c s^5 rises steeply from 0, and five iterations
# leave any s from 0.01 to 1 between 0.68 and 1.14.
_A, _B, _C = 3.4445, -4.7750, 2.0315
ITERATIONS = 5


def newton_schulz(x: tf.Tensor) -> tf.Tensor:  # [..., M, N] -> [..., M, N]
  """Brings every singular value near 1: about U V' of x = U S V'."""
  if x.shape[-2] > x.shape[-1]:
    return tf.linalg.matrix_transpose(
      newton_schulz(tf.linalg.matrix_transpose(x))
    )
  x /= tf.norm(x, axis=(-2, -1), keepdims=True) + 1e-7
  for _ in range(ITERATIONS):
    a = tf.matmul(x, x, transpose_b=True)
    x = _A * x + tf.matmul(_B * a + _C * tf.matmul(a, a), x)
  return x


def orthogonalize(
  momentum: tf.Tensor, n_parts: int = 1
) -> tf.Tensor:  # [M, N] -> [M, N]
  """Returns an orthogonal matrix with entries as large as AdamW's updates.

  Their root mean square is 0.2, so that learning rate and weight decay mean
  what they mean for AdamW (Liu et al. 2025, equation 4).

  Args:
    momentum: the running average of the gradient.
    n_parts: matrices that lie side by side in this one, each made orthogonal
      by itself.
  """
  parts = tf.stack(tf.split(momentum, n_parts, axis=-1))
  size = 0.2 * math.sqrt(max(parts.shape[1:]))
  return tf.concat(tf.unstack(size * newton_schulz(parts)), -1)
