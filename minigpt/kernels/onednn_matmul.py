"""Products that an XLA program leaves to oneDNN.

XLA multiplies bfloat16 as it does float32, at its speed, and widens bytes to
16 bits before it multiplies them; oneDNN uses a processor's units for both.
XLA knows its products by a name (XLA: service/cpu/onednn_matmul.cc), which
TensorFlow's builds for x86 hold. Other processors and devices do without.

Shapes: M rows, N columns, K what is summed over; `...` alike in both factors.
"""

import functools
import json
import os

import numpy as np
import tensorflow as tf
from tensorflow.compiler.tf2xla.ops import gen_xla_ops

from minigpt.compiler import backend

_NAME = '__onednn$matmul'

# oneDNN calls the order `BA16a64b4a`: blocks of columns, in them groups of
# numbers that one instruction multiplies and adds, all of K of them.
_BLOCK, _GROUP, _K_BLOCK = 64, 4, 64


@functools.cache
def available() -> bool:
  """Whether XLA knows such products here: it is asked for one, once."""
  if os.environ.get('TF_ENABLE_ONEDNN_OPTS') == '0':
    return False
  with tf.init_scope():
    try:
      backend.compiled(matmul)(tf.ones([2, 2]), tf.ones([2, 2]))
    except tf.errors.OpError:
      return False
  return True


def matmul(
  a: tf.Tensor,
  b: tf.Tensor,
  transpose_a: bool = False,
  transpose_b: bool = False,
) -> tf.Tensor:  # [..., M, K], [..., K, N] -> [..., M, N]
  """`tf.matmul` of factors whose shapes are known; it has no gradient."""
  n_rows = a.shape[-1 if transpose_a else -2]
  n_columns = b.shape[-2 if transpose_b else -1]
  config = {'transpose_a': transpose_a, 'transpose_b': transpose_b}
  return _call(a, b, config, a.dtype, [*a.shape[:-2], n_rows, n_columns])


def _call(a, b, config, dtype, shape):
  return gen_xla_ops.xla_custom_call_v2(
    [a, b],
    call_target_name=_NAME,
    backend_config=json.dumps({'onednn_matmul_config': config}),
    has_side_effect=False,
    result_dtypes=[dtype],
    result_shapes=[shape],
  )[0]


def multiplies_bytes() -> bool:
  """Whether `byte_product` may be had here."""
  return backend.has_byte_units() and available()


def pack(w: tf.Tensor) -> tf.Tensor:  # int8 [N, K] -> int8 [a little over N K]
  """`w` in the order in which oneDNN reads the weights of `byte_product`."""
  n, k = w.shape
  w = tf.pad(w, [[0, -n % _BLOCK], [0, -k % _K_BLOCK]])
  n_groups = w.shape[1] // _GROUP
  groups = tf.bitcast(tf.reshape(w, [-1, _BLOCK, n_groups, _GROUP]), tf.int32)
  in_order = tf.bitcast(tf.transpose(groups, [0, 2, 1]), tf.int8)
  return tf.reshape(in_order, [-1])


def byte_product(
  x: tf.Tensor, packed: tf.Tensor, n_out: int
) -> tf.Tensor:  # uint8 [M, K], what `pack` made of [N, K] -> int32 [M, N]
  """`x w'`, exactly, where `reads` says that it can be had."""
  config = {'optimization_config': {'weights_prepacked': True}}
  return _call(x, packed, config, tf.int32, [x.shape[0], n_out])


@functools.cache
def reads(n_rows: int, n_out: int, n_in: int) -> bool:
  """Whether oneDNN reads, for products of these sizes, what `pack` wrote.

  Nobody promises the order. So it is tried, once, on numbers that would tell.
  """
  if not multiplies_bytes():
    return False
  rng = np.random.default_rng(0)
  x = rng.integers(256, size=[n_rows, n_in], dtype=np.uint8)
  w = np.zeros([n_out, n_in], np.int8)
  some = rng.choice(n_out, min(n_out, 99), replace=False)
  w[some] = rng.integers(-127, 128, [len(some), n_in])
  wanted = np.zeros([n_rows, n_out], np.int32)
  wanted[:, some] = x.astype(np.float64) @ w[some].T.astype(np.float64)
  with tf.init_scope():
    found = backend.compiled(byte_product)(tf.constant(x), pack(w), n_out)
  return np.array_equal(found, wanted)
