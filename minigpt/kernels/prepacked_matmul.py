"""Matmuls with constant weights, which oneDNN packs only once.

Why: oneDNN multiplies by weights in a layout of its own, in which a load fills
a register. `tf.matmul` packs them in each call, which for a few rows takes
longer than the matmul. One of TensorFlow's kernels keeps packed weights, but
only if an attribute says that they are constants of the graph; TensorFlow does
not set it for variables, so this module does. The kernel can add a bias and
compute GELU too.

For: `hybrid`, with frozen float weights.

Measured on 2 cores of Zen 5: docs/design/performance_notes.md, "packed once";
`minigpt bench --what=decode --compile=hybrid --compute_dtype=bfloat16`.
"""

import functools
import os

import tensorflow as tf

from minigpt.compiler.backend import current
from minigpt.kernels import quantize
from minigpt.kernels.elementwise import with_leading
from minigpt.kernels.quantize import InOut, Quantized
from minigpt.model import layers, transformer
from minigpt.model.hooks import Hook, no_hook
from minigpt.model.params import ABSENT, MLP, Leaf, Linear, is_absent

_KERNEL = '_MklNativeFusedMatMul'


@functools.cache
def available() -> bool:
  """Tells whether this TensorFlow has the kernel; builds for x86 do."""
  if os.environ.get('TF_ENABLE_ONEDNN_OPTS') == '0':
    return False
  try:
    with tf.Graph().as_default():
      prepacked_matmul(tf.zeros([1, 1]), tf.zeros([1, 1]), tf.zeros([1]))
  except RuntimeError:  # The kernel is not registered.
    return False
  return True


def _packs(x: tf.Tensor, w: Leaf) -> bool:
  """Tells whether the kernel may treat `w` as a constant."""
  if isinstance(w, Quantized):
    return is_absent(w.scale) and _packs(x, w.values)
  return current().frozen and w.dtype == x.dtype and available()


def _packs_layer(x, p, **_) -> bool:
  return isinstance(p, Linear) and _packs(x, p.w)


@layers.linear.implementation('hybrid', supports=_packs_layer)
@quantize.quantized_linear.implementation('hybrid', supports=_packs_layer)
def prepacked_linear(
  x: tf.Tensor, p: Linear, then_gelu: bool = False
) -> tf.Tensor:  # [..., in] -> [..., out]
  """Computes x w + b, or its GELU."""
  is_quantized = isinstance(p.w, Quantized)
  is_transposed = is_quantized and not isinstance(p.w, InOut)
  w = p.w.values if is_quantized else p.w
  return matmul_of_rows(x, w, p.b, is_transposed, then_gelu)


def _packs_table(x, table, **_) -> bool:
  return _packs(x, table)


@layers.embedding_logits.implementation('hybrid', supports=_packs_table)
def prepacked_logits(
  x: tf.Tensor, table: Leaf
) -> tf.Tensor:  # [..., D], [V, D] -> [..., V]
  """Computes x w'."""
  return matmul_of_rows(x, table, transpose_w=True)


def _fuses_gelu(x, p, hook, **_) -> bool:
  return hook is no_hook and _packs_layer(x, p.c_fc)


@transformer.mlp.implementation('hybrid', supports=_fuses_gelu)
def prepacked_mlp(
  x: tf.Tensor, p: MLP, hook: Hook = no_hook
) -> tf.Tensor:  # [B, T, D] -> [B, T, D]
  """Computes the MLP; the kernel of the first layer also computes GELU."""
  return layers.linear(prepacked_linear(x, p.c_fc, then_gelu=True), p.c_proj)


def matmul_of_rows(
  x: tf.Tensor,
  w: Leaf,
  b: Leaf = ABSENT,
  transpose_w: bool = False,
  then_gelu: bool = False,
  packs: bool = True,
) -> tf.Tensor:  # [..., in], [in, out], [out] -> [..., out]
  """Calls `prepacked_matmul` with the leading dimensions flattened."""
  bias = tf.zeros(w.shape[not transpose_w]) if is_absent(b) else b
  rows, bias = tf.reshape(x, [-1, x.shape[-1]]), tf.cast(bias, x.dtype)
  y = prepacked_matmul(
    rows, w, bias, transpose_w, then_gelu=then_gelu, packs=packs
  )
  return with_leading(y, x)


def prepacked_matmul(
  x: tf.Tensor,
  w: tf.Tensor,
  b: tf.Tensor,
  transpose_w: bool = False,
  added: tf.Tensor | None = None,
  then_gelu: bool = False,
  packs: bool = True,
) -> tf.Tensor:  # [N, in], [in, out], [out] -> [N, out]
  """Computes `x w + b`, or `x w' + b`, in a graph; it has no gradient.

  The operation packs `w` in its first call, keeps the packed copy, and ignores
  `w` in later calls.

  Args:
    x: float32 or bfloat16, like `w` and `b`.
    w: [in, out], or [out, in] for `transpose_w`.
    b: the bias.
    transpose_w: multiply by w'.
    added: [N, out], added before the result is rounded.
    then_gelu: return GELU of the result, in its tanh form.
    packs: keep the packed `w`; False packs it in each call.
  """
  terms = [b] if added is None else [b, added]
  then = [b'Add'] * (len(terms) - 1) + [b'GeluApproximate'] * then_gelu
  fused = [b'BiasAdd', *then]
  made = tf.compat.v1.get_default_graph().create_op(
    _KERNEL,
    list(map(tf.convert_to_tensor, (x, w, *terms))),
    [x.dtype],
    name='prepacked',
    attrs=_attributes(x.dtype, fused, len(terms), transpose_w, packs),
  )
  y = made.outputs[0]
  y.set_shape([x.shape[0], w.shape[0 if transpose_w else 1]])
  return y


def _attributes(dtype, fused, n_terms, transpose_b, is_filter_const):
  attribute = tf.compat.v1.AttrValue
  return {
    'T': attribute(type=dtype.as_datatype_enum),
    'num_args': attribute(i=n_terms),
    'transpose_a': attribute(b=False),
    'transpose_b': attribute(b=transpose_b),
    'is_filter_const': attribute(b=is_filter_const),
    'fused_ops': attribute(list=attribute.ListValue(s=fused)),
    # The label under which oneDNN's kernels for plain tensors are registered.
    '_kernel': attribute(s=b'MklNameChangeOp'),
  }
