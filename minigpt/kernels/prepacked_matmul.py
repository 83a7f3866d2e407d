"""A product whose weights never change, so that they are packed once.

oneDNN multiplies by weights in an order of its own, in which a load fills a
register. `tf.matmul` brings them into it in each call: for a few rows that
takes longer than the product. One of TensorFlow's kernels keeps the packed
weights, but only of constants of a graph, which weights in variables are not.
Here it is told that they are.
"""

import functools
import os

import tensorflow as tf

_KERNEL = '_MklNativeFusedMatMul'


@functools.cache
def available() -> bool:
  """Whether this TensorFlow has the kernel; builds for x86 do."""
  if os.environ.get('TF_ENABLE_ONEDNN_OPTS') == '0':
    return False
  try:
    with tf.Graph().as_default():
      product(tf.zeros([1, 1]), tf.zeros([1, 1]), tf.zeros([1]))
  except RuntimeError:  # It is not registered.
    return False
  return True


def product(
  x: tf.Tensor,
  w: tf.Tensor,
  b: tf.Tensor,
  transpose_w: bool = False,
  then_gelu: bool = False,
) -> tf.Tensor:  # [N, in], [in, out], [out] -> [N, out]
  """`x w + b`, or `x w' + b`, for a graph; it has no gradient.

  The operation keeps what it has packed of its first `w`, beside `w` itself,
  and never looks at another.

  Args:
    x: float32 or bfloat16, as `w` and `b` are.
    then_gelu: GELU of it, in its tanh form.
  """
  then = [b'GeluApproximate'] if then_gelu else []
  attribute = tf.compat.v1.AttrValue
  made = tf.compat.v1.get_default_graph().create_op(
    _KERNEL,
    list(map(tf.convert_to_tensor, (x, w, b))),
    [x.dtype],
    name='packed',
    attrs={
      'T': attribute(type=x.dtype.as_datatype_enum),
      'num_args': attribute(i=1),
      'transpose_a': attribute(b=False),
      'transpose_b': attribute(b=transpose_w),
      'is_filter_const': attribute(b=True),
      'fused_ops': attribute(list=attribute.ListValue(s=[b'BiasAdd', *then])),
      # What oneDNN's kernels of plain tensors are registered under.
      '_kernel': attribute(s=b'MklNameChangeOp'),
    },
  )
  y = made.outputs[0]
  y.set_shape([x.shape[0], w.shape[0 if transpose_w else 1]])
  return y
