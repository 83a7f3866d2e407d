"""Muon's update (Jordan et al. 2024): the momentum, orthogonalized.

https://kellerjordan.github.io/posts/muon/

Shapes: M rows, N columns of a hidden weight.
"""

import math

import tensorflow as tf

# Five iterations of s -> a s + b s^3 + c s^5, which is steep at 0, bring every
# s in [0.01, 1] into [0.68, 1.14].
_A, _B, _C = 3.4445, -4.7750, 2.0315
ITERATIONS = 5


def newton_schulz(x: tf.Tensor) -> tf.Tensor:  # [..., M, N] -> [..., M, N]
  """Approximates U V' for x = U S V': brings all singular values near 1."""
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
  """Orthogonalizes the momentum, with entries as large as AdamW's updates.

  The root mean square of the entries is 0.2, so that learning rate and weight
  decay act as they do for AdamW (Liu et al. 2025, equation 4).

  Args:
    momentum: the running average of the gradient.
    n_parts: how many matrices `momentum` holds side by side; each is
      orthogonalized by itself.
  """
  parts = tf.stack(tf.split(momentum, n_parts, axis=-1))
  size = 0.2 * math.sqrt(max(parts.shape[1:]))
  return tf.concat(tf.unstack(size * newton_schulz(parts)), -1)
