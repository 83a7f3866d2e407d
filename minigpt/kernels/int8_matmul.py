"""Matmuls with int8 weights that also round the activations to integers.

Why: processors with VNNI or AMX multiply int8 at several times the speed of
float32. A single row is not rounded, as reading the weights takes all its time.

For: all compiled backends, with weights that `quantize` made for it. In an XLA
program for this machine, oneDNN multiplies; elsewhere, XLA's own code. With
oneDNN, two bytes per activation are as exact as floats, and fast enough.

Measured on 2 cores of Zen 5, GPT-2 124M, eight sequences: 2.2 times as fast as
int8 weights cast to floats; `minigpt bench --what=decode --batch_size=8`.

Shapes: M rows, N columns, K the summed dimension.
"""

import tensorflow as tf

from minigpt.compiler.backend import COMPILED, current
from minigpt.kernels import onednn_matmul
from minigpt.kernels.elementwise import add_bias
from minigpt.kernels.quantize import W8A8, Quantized, quantized_linear
from minigpt.model.layers import sizes
from minigpt.model.params import Linear, is_absent


def _supports(x, p, **_) -> bool:
  return multiplies_int8(x.shape[:-1].num_elements(), p.w)


def multiplies_int8(n_rows: int | None, w: Quantized) -> bool:
  """Tells whether to use `dynamic_int8_matmul`: if it is faster, or `W8A8`.

  Args:
    n_rows: number of rows; None if unknown while tracing.
    w: the weights.
  """
  if is_absent(w.sums) or n_rows is None or n_rows == 1:
    return False
  return isinstance(w, W8A8) or _takes_packed(2 * n_rows, w)


@quantized_linear.implementation(*COMPILED, supports=_supports)
def int8_linear(
  x: tf.Tensor, p: Linear
) -> tf.Tensor:  # [..., in] -> [..., out]
  """Computes x w + b, with both factors rounded."""
  *leading, n_in = sizes(x)
  y = dynamic_int8_matmul(tf.reshape(x, [-1, n_in]), p.w)
  return add_bias(tf.reshape(y, [*leading, y.shape[-1]]), p.b)


def dynamic_int8_matmul(
  x: tf.Tensor, w: Quantized
) -> tf.Tensor:  # f32 [M, K] by [N, K] -> f32 [M, N]
  """Computes x w', each number of x rounded to two bytes, or one for `W8A8`.

  Dynamic quantization with a zero point (Jacob et al. 2018, section 2.3): a row
  of x is unit * levels + zero, and zero contributes zero times the sums of w. A
  level is split into base-256 digits, shifted to -128 .. 127 to be int8.
  """
  n_digits = 1 if isinstance(w, W8A8) else 2
  high, low = tf.reduce_max(x, 1, keepdims=True), tf.reduce_min(x, 1, True)
  unit = tf.maximum((high - low) / (256**n_digits - 1), 1e-30)
  digits, places = tf.round((x - low) / unit), [1]
  if n_digits == 2:
    first = tf.floor(digits / 256)
    # Both digits of all rows go through one matmul.
    digits, places = tf.concat([first, digits - 256 * first], 0), [256, 1]
  parts = tf.split(_multiply(digits - 128, w), n_digits)
  y = sum(place * part for place, part in zip(places, parts, strict=True))
  zero = low + 128 * sum(places) * unit
  return (y * unit + zero * tf.cast(w.sums, tf.float32)) * w.scale


def _multiply(digits, w):
  """Computes `digits w'` exactly, as f32, for digits from -128 to 127."""
  values = tf.convert_to_tensor(w.values)
  if _takes_packed(digits.shape[0], w):
    unsigned = tf.cast(digits + 128, tf.uint8)
    packed = tf.convert_to_tensor(w.packed)
    n_out = values.shape[0]
    y = onednn_matmul.int8_matmul(unsigned, packed, n_out) - 128 * w.sums
  elif onednn_matmul.suits_few(digits.shape[0], tf.int8):
    y = tf.transpose(_plain(values, tf.cast(digits, tf.int8)))
  else:
    y = _plain(tf.cast(digits, tf.int8), values)
  return tf.cast(y, tf.float32)


def _takes_packed(n_rows, w):
  is_here = current().name == 'xla' and not is_absent(w.packed)
  return is_here and onednn_matmul.reads_packed(n_rows, *w.values.shape)


def _plain(a, b):
  return tf.matmul(a, b, transpose_b=True, output_type=tf.int32)
