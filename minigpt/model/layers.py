"""The small pure functions a transformer is written in.

Shapes: `...` any leading dimensions, D and F features, V vocabulary.
"""

import math

import numpy as np
import tensorflow as tf

from minigpt.compiler import backend, subgraphs
from minigpt.kernels import prepacked_matmul
from minigpt.kernels.int8_matmul import byte_product, multiplies_bytes
from minigpt.kernels.matmul import product, suits_few
from minigpt.model.params import (
  ABSENT,
  Adapted,
  Compact,
  LayerNorm,
  Leaf,
  Linear,
  is_absent,
)

_FEW_ROWS = 16


def sizes(x: tf.Tensor) -> list[int | tf.Tensor]:
  """The size of each dimension; a tensor where tracing does not know it."""
  known, size = x.shape, tf.shape(x)
  return [size[i] if n is None else n for i, n in enumerate(known)]


def row_sums(x: tf.Tensor) -> tf.Tensor:  # f32 [..., D] -> [..., 1]
  """The sum of each row.

  XLA's own sum of a matrix has what makes `x` written to memory first. Into a
  product with ones XLA builds it; but a product of few rows takes longer to
  start than they take to add up.
  """
  *leading, n = sizes(x)
  are_few = (x.shape[:-1].num_elements() or _FEW_ROWS) < _FEW_ROWS
  if are_few or backend.mode() != 'xla':
    return tf.reduce_sum(x, -1, keepdims=True)
  sums = tf.linalg.matvec(tf.reshape(x, [-1, n]), tf.ones([n]))
  return tf.reshape(sums, [*leading, 1])


@subgraphs.fused
def gelu(x: tf.Tensor) -> tf.Tensor:  # [...] -> [...]
  """GELU in its tanh form (Hendrycks & Gimpel 2016), as GPT-2 uses it.

  Computed in f32: XLA would round each product to bfloat16 on its own. The
  gradient is written out, for fewer passes than a tape's.
  """
  steep, cubic = math.sqrt(2 / math.pi), 0.044715

  @tf.custom_gradient
  def of(x):
    h = tf.cast(x, tf.float32)
    t = tf.tanh(steep * (h + cubic * h * h * h))

    def gradient(upstream):
      slope = steep * (1 + 3 * cubic * h * h)
      d = 0.5 * (1 + t + h * (1 - t * t) * slope)
      return tf.cast(tf.cast(upstream, tf.float32) * d, x.dtype)

    return tf.cast(0.5 * h * (1 + t), x.dtype), gradient

  return of(x)


@subgraphs.fused
def layernorm(
  x: tf.Tensor, p: LayerNorm, epsilon: float = 1e-5
) -> tf.Tensor:  # [..., D] -> [..., D]
  """Layer normalization over features (Ba et al. 2016), computed in f32."""
  y = _standardized(x, epsilon) * tf.cast(p.g, tf.float32)
  return add_bias(y, p.b, x.dtype)


def _standardized(x, epsilon):
  """Each row with mean 0 and variance 1, in f32.

  The gradient is written out, for two sums where a tape would make three.
  """

  def mean(x):
    return row_sums(x) / x.shape[-1]

  @tf.custom_gradient
  def of(x):
    h = tf.cast(x, tf.float32)
    deviation = h - mean(h)
    scale = tf.math.rsqrt(mean(tf.square(deviation)) + epsilon)

    def gradient(upstream):
      y = deviation * scale
      dx = scale * (upstream - mean(upstream) - y * mean(y * upstream))
      return tf.cast(dx, x.dtype)

    return deviation * scale, gradient

  return of(x)


def add_bias(
  x: tf.Tensor, b: Leaf, dtype: tf.DType | None = None
) -> tf.Tensor:  # [..., F], [F] -> [..., F]
  """`x + b`, or `x` where the bias is absent, in `dtype` or that of `x`."""
  dtype = dtype or x.dtype
  if is_absent(b):
    return tf.cast(x, dtype)
  if backend.mode() != 'xla':
    return tf.cast(x + tf.cast(b, x.dtype), dtype)
  # XLA adds a gradient's rows up best where it finds them in memory, in two
  # dimensions. Left alone, it makes them anew for each column of the sum.
  rows = tf.cast(tf.reshape(x, [-1, b.shape[0]]), tf.float32)
  rows = backend.settled(tf.cast(rows + tf.cast(b, tf.float32), dtype))
  return tf.reshape(rows, sizes(x))


def matmul(
  x: tf.Tensor,
  w: Leaf,
  transpose_w: bool = False,
  b: tf.Tensor = ABSENT,
  then_gelu: bool = False,
) -> tf.Tensor:  # [..., in] -> [..., out]
  """`x w + b`, or `x w' + b`; a compact `w`, always `[out, in]`, is scaled
  after the product.

  The leading dimensions become one: the gradient of `w` is then one product
  over all of them, not one for each row of the batch and a sum.

  Args:
    then_gelu: `gelu` of it, which the kernel of packed weights makes as well.
  """
  *leading, n_in = sizes(x)
  x, scale = tf.reshape(x, [-1, n_in]), ABSENT
  given, is_compact = w, isinstance(w, Compact)
  if is_compact:
    w, scale, transpose_w = w.values, w.scale, True
  if _packs(x, w):
    bias = tf.zeros(w.shape[not transpose_w]) if is_absent(b) else b
    bias = tf.cast(bias, x.dtype)
    y = prepacked_matmul.product(x, w, bias, transpose_w, then_gelu)
    return tf.reshape(y, [*leading, y.shape[-1]])
  if is_compact and multiplies_bytes(x.shape[0], given):
    y, scale = byte_product(x, given), ABSENT
  else:
    y = _product(x, w, transpose_w, is_compact and is_absent(scale))
  y = _scaled(tf.reshape(y, [*leading, y.shape[-1]]), scale)
  y = add_bias(y, b)
  return gelu(y) if then_gelu else y


def _product(x, w, transpose_w, ends):
  """A product of matrices; perhaps nothing that follows is built into it."""
  if w.dtype != x.dtype:
    x = backend.once(x)
    w = tf.cast(backend.after(tf.convert_to_tensor(w), x), x.dtype)
  if transpose_w and suits_few(x.shape[0], x.dtype):
    # XLA would turn w x' into x w'.
    return tf.transpose(backend.once(product(w, x, transpose_b=True)))
  y = product(x, w, transpose_b=transpose_w)
  # XLA's product of a matrix and a vector is slower with a bias built in; a
  # scale keeps it out as well.
  return backend.once(y) if ends else y


def _packs(x: tf.Tensor, w: Leaf) -> bool:
  """Whether TensorFlow's kernels should multiply by `w` as a constant."""
  is_asked = backend.frozen() and backend.mode() == 'hybrid'
  return is_asked and w.dtype == x.dtype and prepacked_matmul.available()


def _scaled(x, scale):
  return x if is_absent(scale) else x * scale


def linear(
  x: tf.Tensor, p: Linear | Adapted, then_gelu: bool = False
) -> tf.Tensor:  # [..., in] -> [..., out]
  if isinstance(p, Adapted):
    a, b = p.adapter
    y = linear(x, p.layer)
    y += tf.cast(p.scale, y.dtype) * matmul(matmul(x, a), b)
    return gelu(y) if then_gelu else y
  return matmul(x, p.w, b=p.b, then_gelu=then_gelu)


def rows(
  table: Leaf, index: tf.Tensor | slice
) -> tf.Tensor:  # [V, D], [...] -> [..., D]
  """Rows of an embedding.

  A variable is read first: to gather from the variable itself would make every
  later read of it a copy, one of the whole head for each token decoded.
  """

  def pick(x):
    x = tf.convert_to_tensor(x)
    return x[index] if isinstance(index, slice) else tf.gather(x, index)

  if not isinstance(table, Compact):
    return pick(table)
  picked = tf.cast(pick(table.values), tf.float32)
  if is_absent(table.scale):
    return picked
  return picked * pick(table.scale)[..., None]


def fold(rng: tf.Tensor | None, number: int | tf.Tensor) -> tf.Tensor | None:
  """Derives the `number`-th seed of `rng`, int32 [2]; None stays None."""
  if rng is None:
    return None
  return tf.random.experimental.stateless_fold_in(rng, number, alg='philox')


def dropout(
  x: tf.Tensor, rate: float, rng: tf.Tensor | None
) -> tf.Tensor:  # [...] -> [...]
  """Zeroes a share `rate` of `x`, scales up the rest (Srivastava et al. 2014).

  Args:
    rng: int32 [2] seed that decides which entries fall; None: nothing falls.
  """
  if rng is None or rate == 0:
    return x
  return _drop(x, rng, rate=rate)


@subgraphs.fused
def _drop(x, rng, rate):
  # Integers, as XLA and the CPU kernel make different floats of them.
  bits = tf.random.stateless_uniform(
    tf.shape(x), rng, None, None, tf.uint32, alg='philox'
  )
  keep = tf.cast(bits >= np.uint32(rate * 2**32), x.dtype)
  return x * keep / (1 - rate)


@subgraphs.fused
def softmax(x: tf.Tensor) -> tf.Tensor:  # [..., S] -> [..., S]
  return tf.nn.softmax(x)


def softmax_and_log_sums(
  x: tf.Tensor,
) -> tuple[tf.Tensor, tf.Tensor]:  # f32 [..., S] -> [..., S], [..., 1]
  """The softmax, and the logs of what the exponentials of `x` add up to."""
  highest = tf.reduce_max(x, -1, keepdims=True)
  exponentials = tf.exp(x - highest)
  sums = row_sums(exponentials)
  return exponentials / sums, highest + tf.math.log(sums)


@subgraphs.fused
def cross_entropy(
  logits: tf.Tensor, targets: tf.Tensor
) -> tf.Tensor:  # [..., V], [...] -> [...]
  """`-log softmax(logits)[target]` in nats, computed in f32.

  Its gradient, softmax(logits) less 1 at the target, is written out: the one
  that TensorFlow has for XLA passes over all of [..., V] once more.
  """

  @tf.custom_gradient
  def of(logits):
    scores = tf.cast(logits, tf.float32)
    shares, log_sums = softmax_and_log_sums(scores)
    at_target = tf.gather(scores, targets, batch_dims=len(targets.shape))

    def gradient(upstream):
      hit = tf.one_hot(targets, logits.shape[-1])
      return tf.cast(upstream[..., None] * (shares - hit), logits.dtype)

    return log_sums[..., 0] - at_target, gradient

  return of(logits)
