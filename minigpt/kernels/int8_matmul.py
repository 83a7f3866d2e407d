"""Products with int8 weights in which the other factor is bytes as well.

oneDNN makes them in an XLA program of this machine, XLA where it does not.

Shapes: M rows, N columns, K what is summed over.
"""

import tensorflow as tf

from minigpt.compiler import backend
from minigpt.kernels import onednn_matmul
from minigpt.kernels.matmul import suits_few
from minigpt.model.params import W8A8, Compact, is_absent


def multiplies_bytes(n_rows: int | None, w: Compact) -> bool:
  """Whether `byte_product` is for them.

  Reading the weights is what takes time for a single row: it is not rounded.
  Two bytes for a number pay where oneDNN multiplies them.
  """
  if is_absent(w.sums) or (n_rows or 1) == 1:
    return False
  return isinstance(w, W8A8) or _takes_packed(2 * n_rows, w)


def byte_product(
  x: tf.Tensor, w: Compact
) -> tf.Tensor:  # f32 [M, K] by [N, K] -> f32 [M, N]
  """x w', each number of x rounded to two bytes, or to one for `W8A8`.

  Dynamic quantization, with a zero point (Jacob et al. 2018, section 2.3): a
  row is unit * levels + zero, and the share of zero is known without x. Bytes
  are the digits of a level, from -128 to 127.
  """
  n_digits = 1 if isinstance(w, W8A8) else 2
  high, low = tf.reduce_max(x, 1, keepdims=True), tf.reduce_min(x, 1, True)
  unit = tf.maximum((high - low) / (256**n_digits - 1), 1e-30)
  digits, places = tf.round((x - low) / unit), [1]
  if n_digits == 2:
    first = tf.floor(digits / 256)
    digits, places = tf.concat([first, digits - 256 * first], 0), [256, 1]
  parts = tf.split(_multiply(digits - 128, w), n_digits)
  y = sum(place * part for place, part in zip(places, parts, strict=True))
  zero = low + 128 * sum(places) * unit
  return (y * unit + zero * tf.cast(w.sums, tf.float32)) * w.scale


def _multiply(digits, w):
  """`digits w'` of whole numbers from -128 to 127, exactly, as f32."""
  values = tf.convert_to_tensor(w.values)
  if _takes_packed(digits.shape[0], w):
    unsigned = tf.cast(digits + 128, tf.uint8)
    packed = tf.convert_to_tensor(w.packed)
    y = (
      onednn_matmul.byte_product(unsigned, packed, values.shape[0])
      - 128 * w.sums
    )
  elif suits_few(digits.shape[0], tf.int8):
    y = tf.transpose(_by_xla(values, tf.cast(digits, tf.int8)))
  else:
    y = _by_xla(tf.cast(digits, tf.int8), values)
  return tf.cast(y, tf.float32)


def _takes_packed(n_rows, w):
  is_here = backend.runs_here() and not is_absent(w.packed)
  return is_here and onednn_matmul.reads(n_rows, *w.values.shape)


def _by_xla(a, b):
  return tf.matmul(a, b, transpose_b=True, output_type=tf.int32)
