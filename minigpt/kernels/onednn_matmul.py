"""oneDNN's matmuls in XLA programs.

Why: XLA multiplies bfloat16 at float32's speed, and widens int8 to 16 bits
before it multiplies; oneDNN uses the processor's hardware for both. In float32,
XLA is as fast, except if the first factor is transposed, as in the gradients of
weights, keys and values.

For: `xla`. oneDNN's matmul is a custom call of XLA (XLA's
service/cpu/onednn_matmul.cc) in TensorFlow's builds for x86. Other processors
and devices do without it.

Measured on 2 cores of Zen 5: GPT-2 124M trains at 751 tokens/s in bfloat16, 614
without oneDNN; at 466 in float32, 443 without (`minigpt bench --what=train`).

Shapes: M rows, N columns, K the summed dimension; `...` equal in both factors.
"""

import functools
import os

import numpy as np
import tensorflow as tf

from minigpt.compiler import backend, cpu_features, custom_call, jit

_NAME = '__onednn$matmul'

# With fewer rows, a matmul takes as long as reading its weights.
_FEWEST_ROWS = 16
# The layout that oneDNN calls `BA16a64b4a`: blocks of 64 columns; in a block,
# groups of 4 numbers of K, which one instruction multiplies and adds.
_BLOCK, _GROUP, _K_BLOCK = 64, 4, 64


@functools.cache
def available() -> bool:
  """Tells whether XLA supports these matmuls here, by compiling one, once."""
  if os.environ.get('TF_ENABLE_ONEDNN_OPTS') == '0':
    return False
  if not custom_call.available():
    return False
  with tf.init_scope():
    try:
      jit.compiled(onednn_matmul)(tf.ones([2, 2]), tf.ones([2, 2]))
    except tf.errors.OpError:
      return False
  return True


def onednn_matmul(
  a: tf.Tensor,
  b: tf.Tensor,
  transpose_a: bool = False,
  transpose_b: bool = False,
) -> tf.Tensor:  # [..., M, K], [..., K, N] -> [..., M, N]
  """Multiplies factors of known shapes; it has no gradient."""
  n_rows = a.shape[-1 if transpose_a else -2]
  n_columns = b.shape[-2 if transpose_b else -1]
  config = {'transpose_a': transpose_a, 'transpose_b': transpose_b}
  return _call(a, b, config, a.dtype, [*a.shape[:-2], n_rows, n_columns])


def _call(a, b, config, dtype, shape):
  config = {'onednn_matmul_config': config}
  return custom_call.custom_call(_NAME, [a, b], config, [(dtype, shape)])[0]


def matmul(
  a: tf.Tensor,
  b: tf.Tensor,
  transpose_a: bool = False,
  transpose_b: bool = False,
) -> tf.Tensor:  # [..., M, K], [..., K, N] -> [..., M, N]
  """Multiplies floats with oneDNN or the compiler, whichever is faster."""
  if not (_has_choice() and _is_known(a) and _is_known(b)):
    return tf.matmul(a, b, transpose_a, transpose_b)

  @tf.custom_gradient
  def multiply(a, b):
    def gradient(dy):
      if transpose_a:
        da = matmul(b, dy, transpose_b, True)
      else:
        da = matmul(dy, b, False, not transpose_b)
      if transpose_b:
        db = matmul(dy, a, True, transpose_a)
      else:
        db = matmul(a, dy, not transpose_a, False)
      return da, db

    by = onednn_matmul if prefers_onednn(a.dtype, transpose_a) else tf.matmul
    return by(a, b, transpose_a, transpose_b), gradient

  return multiply(a, b)


def prefers_onednn(dtype: tf.DType, transpose_a: bool = False) -> bool:
  """Tells whether oneDNN is faster at such matmuls in the traced program."""
  is_bfloat16 = dtype == tf.bfloat16
  suits = cpu_features.here().bfloat16 if is_bfloat16 else transpose_a
  return suits and _has_choice()


def _has_choice():
  return backend.current().name == 'xla' and available()


def _is_known(x):
  return x.shape.is_fully_defined()


def suits_few(n_rows: int | None, dtype: tf.DType) -> bool:
  """Tells whether w x' is faster than x w', as it is for few rows.

  For `x w'`, all kernels but oneDNN's custom call rearrange w; `w x'` reads it
  in order. For a single row, XLA has a loop of its own, in either order.
  """
  fewest = 2 if backend.current().is_whole_xla else 1
  return fewest <= (n_rows or 1) < _FEWEST_ROWS and not prefers_onednn(dtype)


def multiplies_int8() -> bool:
  """Tells whether `int8_matmul` is available here."""
  return cpu_features.here().int8 and available()


def pack(w: tf.Tensor) -> tf.Tensor:  # int8 [N, K] -> int8 [a little over N K]
  """Returns `w` in the layout that oneDNN reads in `int8_matmul`."""
  n, k = w.shape
  w = tf.pad(w, [[0, -n % _BLOCK], [0, -k % _K_BLOCK]])
  n_groups = w.shape[1] // _GROUP
  groups = tf.bitcast(tf.reshape(w, [-1, _BLOCK, n_groups, _GROUP]), tf.int32)
  in_order = tf.bitcast(tf.transpose(groups, [0, 2, 1]), tf.int8)
  return tf.reshape(in_order, [-1])


def int8_matmul(
  x: tf.Tensor, packed: tf.Tensor, n_out: int
) -> tf.Tensor:  # uint8 [M, K], `pack` of int8 [N, K] -> int32 [M, N]
  """Computes `x w'` exactly; the sizes must pass `reads_packed`."""
  config = {'optimization_config': {'weights_prepacked': True}}
  return _call(x, packed, config, tf.int32, [x.shape[0], n_out])


@functools.cache
def reads_packed(n_rows: int, n_out: int, n_in: int) -> bool:
  """Tells whether oneDNN reads the layout of `pack` for matmuls of these sizes.

  oneDNN does not document the layout. So this function tries it, once for each
  size, on random numbers.
  """
  if not multiplies_int8():
    return False
  rng = np.random.default_rng(0)
  x = rng.integers(256, size=[n_rows, n_in], dtype=np.uint8)
  w = np.zeros([n_out, n_in], np.int8)
  some = rng.choice(n_out, min(n_out, 99), replace=False)
  w[some] = rng.integers(-127, 128, [len(some), n_in])
  wanted = np.zeros([n_rows, n_out], np.int32)
  wanted[:, some] = x.astype(np.float64) @ w[some].T.astype(np.float64)
  with tf.init_scope():
    found = jit.compiled(int8_matmul)(tf.constant(x), pack(w), n_out)
  return np.array_equal(found, wanted)
