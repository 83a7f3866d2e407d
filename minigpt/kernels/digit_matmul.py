"""Matmuls of exports with int8 weights, for servers without XLA.

Why: a decoding step takes as long as reading the weights, and int8 quarters
their bytes. TensorFlow casts such weights to floats in each call, which takes
longer than the matmul; but a kernel of oneDNN multiplies bytes. So each row of
activations is rounded to levels, and each level is split into two digits, which
the kernel multiplies. A digit has 7 bits: without VNNI, the kernel adds pairs
of products in 16 bits, in which two products of 8-bit digits would overflow
(oneDNN, "Nuances of int8 computations").

For: `graph-onednn`, with int8 weights and float32 activations. The server must
be built for x86. It works on any processor, and is fast with VNNI or AMX.

Measured on 2 cores of Zen 5, GPT-2 124M: 2.3 times the rate of float32 for one
row, 1.6 for eight, 1.2 for a prompt of 512; `benchmarks/served.py`.

Shapes: `...` any leading dimensions, N rows, D features, V vocabulary.
"""

import functools

import tensorflow as tf

from minigpt.kernels.elementwise import add_bias, with_leading
from minigpt.kernels.quantize import (
  InOut,
  Quantized,
  in_out,
  int8,
  map_matrices,
  quantized_linear,
)
from minigpt.model.params import Linear, Params, is_absent

_KERNEL = '_QuantizedMatMul'
_BASE = 128
# Levels run from -_HIGHEST to _HIGHEST. Adding _HIGHEST makes them unsigned; it
# raises both digits by _SHIFT, so the correction is the same for both.
_SHIFT = 63
_HIGHEST = _SHIFT * (_BASE + 1)
_SMALLEST = 1e-30  # Avoids a division by 0 for rows of zeros.


@functools.cache
def available() -> bool:
  """Tells whether this TensorFlow has the kernel; builds for x86 do."""
  w = _store(tf.constant([[2.0]]))
  try:
    multiply = tf.function(lambda x: digit_matmul(x, w))
    return bool(tf.abs(multiply(tf.ones([1, 1])) - 2) < 1e-3)
  except (tf.errors.OpError, RuntimeError):  # The kernel is not registered.
    return False


def stored(p: Params) -> Params:
  """Returns the tree with int8 matrices, for `digit_linear`.

  The matrices of linear layers are `[in, out]`. `sums`, in float32, correct the
  results for the shift that makes digits unsigned.
  """
  return map_matrices(p, _store, in_out(_store))


def _store(w):  # f32 [out, in] or [V, D]
  levels = int8(w)
  sums = tf.reduce_sum(tf.cast(levels.values, tf.float32), 1)
  return levels._replace(sums=tf.Variable(-_SHIFT * sums))


def _supports(p, **_) -> bool:
  return not is_absent(p.w.sums) and p.w.sums.dtype == tf.float32


@quantized_linear.implementation('graph-onednn', supports=_supports)
def digit_linear(
  x: tf.Tensor, p: Linear
) -> tf.Tensor:  # [..., in] -> [..., out]
  """Computes x w + b, or x w' + b, with x rounded to 16,255 levels a row."""
  # A prompt uses each matrix only once, so a packed copy would not pay off.
  is_step = x.shape.rank == 2 or x.shape[-2] == 1
  y = digit_matmul(tf.reshape(x, [-1, x.shape[-1]]), p.w, packs=is_step)
  return add_bias(with_leading(y, x), p.b)


def digit_matmul(
  x: tf.Tensor, w: Quantized, packs: bool = True
) -> tf.Tensor:  # f32 [N, in] -> f32 [N, out]
  """Multiplies rows by int8 weights; rows are independent of each other.

  Args:
    x: the rows; the levels of a row span its largest absolute value.
    w: weights from `stored`.
    packs: keep the weights in oneDNN's layout; see `prepacked_matmul`.
  """
  largest = tf.reduce_max(tf.abs(x), 1, keepdims=True)
  per_unit = _HIGHEST / tf.maximum(largest, _SMALLEST)
  # The cast truncates, so adding a half rounds.
  levels = tf.cast(x * per_unit + (_HIGHEST + 0.5), tf.uint16)
  seven, mask = (tf.constant(n, tf.uint16) for n in (7, _BASE - 1))
  digits = tf.concat(
    [
      tf.bitwise.right_shift(levels, seven),
      tf.bitwise.bitwise_and(levels, mask),
    ],
    0,
  )
  high, low = tf.split(_multiply(tf.cast(digits, tf.uint8), w, packs), 2)
  return (_BASE * high + low) / per_unit * w.scale


def _multiply(digits, w, packs):  # uint8 [2 N, in] -> f32 [2 N, out]
  """Computes `(digits - 63) w`: integers, exact below 2^24."""
  values = tf.convert_to_tensor(w.values)
  tensors = [
    tf.bitcast(digits, tf.quint8),
    tf.bitcast(values, tf.qint8),
    tf.convert_to_tensor(w.sums),
  ]
  # The ranges that bytes represent: here the bytes' own values.
  ranges = [tf.constant(bound) for bound in (0.0, 255.0, -127.0, 127.0)]
  transposes = not isinstance(w, InOut)
  made = tf.compat.v1.get_default_graph().create_op(
    _KERNEL,
    tensors + ranges,
    [tf.float32],
    name='digits',
    attrs=_attributes(transposes, packs),
  )
  y = made.outputs[0]
  y.set_shape([digits.shape[0], values.shape[0 if transposes else 1]])
  return y


def _attributes(transpose_b, is_weight_const):
  attribute = tf.compat.v1.AttrValue

  def types(*dtypes):
    numbers = [dtype.as_datatype_enum for dtype in dtypes]
    return attribute(list=attribute.ListValue(type=numbers))

  of_one = {
    'T1': tf.quint8,
    'T2': tf.qint8,
    **dict.fromkeys(('Tbias', 'U', 'Tout'), tf.float32),
  }
  fused = attribute.ListValue(s=[b'BiasAdd', b'Dequantize'])
  return {
    **{name: attribute(type=t.as_datatype_enum) for name, t in of_one.items()},
    'Tdevice_inputs': types(tf.quint8, tf.qint8, tf.float32),
    'Thost_inputs': types(*[tf.float32] * 4),
    'Tdevice_outputs': types(tf.float32),
    'Thost_outputs': types(),
    'transpose_a': attribute(b=False),
    'transpose_b': attribute(b=transpose_b),
    'is_weight_const': attribute(b=is_weight_const),
    'is_bias_const': attribute(b=True),
    'fused_ops': attribute(list=fused),
    'input_quant_mode': attribute(s=b'SCALED'),
    'output_quant_mode': attribute(s=b'SCALED'),
  }
