"""Products of bytes that an XLA program leaves to oneDNN.

XLA's own choice for them, YNNPACK, widens bytes to 16 bits before it multiplies
and brings weights into its order in each call. oneDNN multiplies bytes by the
processor's units for them, and takes weights that lie in its order already.
XLA knows its products by a name (XLA: service/cpu/onednn_matmul.cc), which
TensorFlow's builds for x86 hold; other processors and devices do without.

Shapes: M rows, N columns, K what is summed over.
"""

import functools
import os

import numpy as np
import tensorflow as tf
from tensorflow.compiler.tf2xla.ops import gen_xla_ops

from minigpt import lowering

# oneDNN calls the order `BA16a64b4a`: blocks of columns, in them groups of
# numbers that one instruction multiplies and adds, all of K of them.
_BLOCK, _GROUP, _K_BLOCK = 64, 4, 64


@functools.cache
def available() -> bool:
  """Whether this processor has units for bytes that oneDNN may use."""
  is_off = os.environ.get('TF_ENABLE_ONEDNN_OPTS') == '0'
  return not is_off and lowering.has_byte_units()


def pack(w: tf.Tensor) -> tf.Tensor:  # int8 [N, K] -> int8 [a little over N K]
  """`w` in the order in which oneDNN reads the weights of `product`."""
  n, k = w.shape
  w = tf.pad(w, [[0, -n % _BLOCK], [0, -k % _K_BLOCK]])
  groups = tf.bitcast(tf.reshape(w, [-1, _BLOCK, w.shape[1] // 4, 4]), tf.int32)
  in_order = tf.bitcast(tf.transpose(groups, [0, 2, 1]), tf.int8)
  return tf.reshape(in_order, [-1])


def product(
  x: tf.Tensor, packed: tf.Tensor, n_out: int
) -> tf.Tensor:  # uint8 [M, K], what `pack` made of [N, K] -> int32 [M, N]
  """`x w'`, exactly, where `reads` says that it can be had."""
  config = '{"optimization_config": {"weights_prepacked": true}}'
  return gen_xla_ops.xla_custom_call_v2(
    [x, packed],
    call_target_name='__onednn$matmul',
    backend_config=f'{{"onednn_matmul_config": {config}}}',
    has_side_effect=False,
    result_dtypes=[tf.int32],
    result_shapes=[[x.shape[0], n_out]],
  )[0]


@functools.cache
def reads(n_rows: int, n_out: int, n_in: int) -> bool:
  """Whether oneDNN reads, for products of these sizes, what `pack` wrote.

  Nobody promises the order. So it is tried, once, on numbers that would tell.
  """
  if not available():
    return False
  rng = np.random.default_rng(0)
  x = rng.integers(256, size=[n_rows, n_in], dtype=np.uint8)
  w = np.zeros([n_out, n_in], np.int8)
  some = rng.choice(n_out, min(n_out, 99), replace=False)
  w[some] = rng.integers(-127, 128, [len(some), n_in])
  wanted = np.zeros([n_rows, n_out], np.int32)
  wanted[:, some] = x.astype(np.float64) @ w[some].T.astype(np.float64)
  with tf.init_scope():
    try:
      found = lowering.compiled(product)(tf.constant(x), pack(w), n_out)
    except tf.errors.OpError:
      return False
  return np.array_equal(found, wanted)
