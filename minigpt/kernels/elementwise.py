"""GELU, LayerNorm, dropout and cross entropy in fewer passes over memory.

Why: automatic differentiation keeps intermediates of each operation, and adds a
pass over memory for each. Here, each gradient is written out as one expression
of the inputs. Sums of rows are matmuls with ones, into which XLA fuses the
computation of the summands. In `hybrid`, each function is an XLA program.

Measured on 2 cores of Zen 5, GPT-2 124M: cross entropy with its gradient 10.9
-> 6.8 ms a chunk, LayerNorm 1.27 -> 0.58 ms; docs/design/performance_notes.md.
`minigpt bench --what=train` shows the whole step.

Shapes: `...` any leading dimensions, D and F features, V vocabulary, S scores.
"""

import math
from typing import Any

import tensorflow as tf

from minigpt.compiler import barriers
from minigpt.compiler.backend import COMPILED, GRAPH, current
from minigpt.compiler.subgraphs import compiled_island, traced_once_no_grad
from minigpt.model import layers
from minigpt.model.layers import sizes
from minigpt.model.params import LayerNorm, Leaf, is_absent

# With fewer rows, starting a matmul takes longer than the sums themselves.
_FEWEST_ROWS = 16


def with_leading(y: tf.Tensor, x: tf.Tensor) -> tf.Tensor:
  """Gives rows the leading dimensions of x: [N, F], [..., D] -> [..., F].

  If only one size is unknown while tracing, no operation computes it.
  """
  *leading, _ = x.shape
  if leading.count(None) > 1:
    *leading, _ = sizes(x)
  return tf.reshape(
    y, [*(-1 if n is None else n for n in leading), y.shape[-1]]
  )


def row_sums(x: tf.Tensor) -> tf.Tensor:  # float32 [..., D] -> [..., 1]
  """Sums each row.

  For its own sum of a matrix, XLA first writes `x` to memory. It can fuse the
  computation of `x` into a matmul with ones.
  """
  *leading, n = sizes(x)
  is_few = (x.shape[:-1].num_elements() or _FEWEST_ROWS) < _FEWEST_ROWS
  if is_few or not current().is_whole_xla:
    return tf.reduce_sum(x, -1, keepdims=True)
  sums = tf.linalg.matvec(tf.reshape(x, [-1, n]), tf.ones([n]))
  return tf.reshape(sums, [*leading, 1])


def softmax_and_log_sums(
  x: tf.Tensor,
) -> tuple[tf.Tensor, tf.Tensor]:  # float32 [..., S] -> [..., S], [..., 1]
  """Computes softmax and log-sum-exp of each row."""
  highest = tf.reduce_max(x, -1, keepdims=True)
  exponentials = tf.exp(x - highest)
  sums = row_sums(exponentials)
  return exponentials / sums, highest + tf.math.log(sums)


def _is_inference(**_) -> bool:
  return current().inference


@layers.gelu.implementation(*GRAPH, supports=_is_inference)
def gelu_in_few_operations(x: tf.Tensor) -> tf.Tensor:  # [...] -> [...]
  """Computes GELU as x times the logistic function of a polynomial."""
  steep, cubic = 2 * math.sqrt(2 / math.pi), 0.044715
  h = tf.cast(x, tf.float32)
  y = h * tf.sigmoid((steep * cubic * (h * h) + steep) * h)
  return tf.cast(y, x.dtype)


@layers.layernorm.implementation(*GRAPH, supports=_is_inference)
def layernorm_in_few_operations(
  x: tf.Tensor, p: LayerNorm, epsilon: float = 1e-5
) -> tf.Tensor:  # [..., D] -> [..., D]
  """Normalizes rows, with factors in an order that TensorFlow leaves alone.

  TensorFlow replaces the usual order by a kernel of oneDNN, which takes 20
  times as long for a single row.
  """
  h = tf.cast(x, tf.float32)
  deviation = h - tf.reduce_mean(h, -1, keepdims=True)
  variance = tf.reduce_mean(tf.square(deviation), -1, keepdims=True)
  y = deviation * tf.math.rsqrt(variance + epsilon) * tf.cast(p.g, tf.float32)
  return add_bias(y, p.b, x.dtype)


@layers.gelu.implementation(*COMPILED)
@compiled_island
def gelu(x: tf.Tensor) -> tf.Tensor:  # [...] -> [...]
  """Computes GELU with its gradient written out."""
  steep, cubic = math.sqrt(2 / math.pi), 0.044715

  @tf.custom_gradient
  def call(x):
    h = tf.cast(x, tf.float32)
    t = tf.tanh(steep * (h + cubic * h * h * h))

    def gradient(upstream):
      slope = steep * (1 + 3 * cubic * h * h)
      d = 0.5 * (1 + t + h * (1 - t * t) * slope)
      return tf.cast(tf.cast(upstream, tf.float32) * d, x.dtype)

    return tf.cast(0.5 * h * (1 + t), x.dtype), gradient

  return call(x)


@layers.layernorm.implementation(*COMPILED)
@compiled_island
def layernorm(
  x: tf.Tensor, p: LayerNorm, epsilon: float = 1e-5
) -> tf.Tensor:  # [..., D] -> [..., D]
  """Normalizes rows; the written-out gradient takes two sums, not three."""
  y = _standardized(x, epsilon) * tf.cast(p.g, tf.float32)
  return add_bias(y, p.b, x.dtype)


def _standardized(x, epsilon):
  """Returns each row with mean 0 and variance 1, in float32."""

  def mean(x):
    return row_sums(x) / x.shape[-1]

  @tf.custom_gradient
  def call(x):
    h = tf.cast(x, tf.float32)
    deviation = h - mean(h)
    scale = tf.math.rsqrt(mean(tf.square(deviation)) + epsilon)

    def gradient(upstream):
      y = deviation * scale
      dx = scale * (upstream - mean(upstream) - y * mean(y * upstream))
      return tf.cast(dx, x.dtype)

    return deviation * scale, gradient

  return call(x)


def add_bias(
  x: tf.Tensor, b: Leaf, dtype: tf.DType | None = None
) -> tf.Tensor:  # [..., F], [F] -> [..., F]
  """Returns `x + b`, or `x` if the bias is absent.

  Args:
    x: the tensor.
    b: the bias.
    dtype: of the result; None: that of `x`.
  """
  dtype = dtype or x.dtype
  if is_absent(b):
    return tf.cast(x, dtype)
  if not current().is_whole_xla:
    return tf.cast(x + tf.cast(b, x.dtype), dtype)
  # XLA would recompute the rows of the gradient for each column of their sum;
  # so materialize them, in two dimensions.
  rows = tf.cast(tf.reshape(x, [-1, b.shape[0]]), tf.float32)
  rows = tf.cast(rows + tf.cast(b, tf.float32), dtype)
  return tf.reshape(barriers.materialize_gradient(rows), sizes(x))


def _drops(rate, rng, **_) -> bool:
  return rng is not None and rate > 0


@layers.dropout.implementation('hybrid', supports=_drops)
def dropout(
  x: tf.Tensor, rate: float, rng: tf.Tensor
) -> tf.Tensor:  # [...] -> [...]
  """Computes dropout in one program, which writes no random bits to memory."""
  return _dropped(x, rng, rate=rate)


@compiled_island
def _dropped(x, rng, rate):
  return layers.dropout.definition(x, rate, rng)


@layers.cross_entropy.implementation(*COMPILED)
@compiled_island
def cross_entropy(
  logits: tf.Tensor, targets: tf.Tensor
) -> tf.Tensor:  # [..., V], [...] -> [...]
  """Computes -log softmax(logits)[target] with its gradient written out.

  The gradient, softmax(logits) minus 1 at the target, takes one pass less over
  [..., V] than TensorFlow's in XLA.
  """

  @tf.custom_gradient
  def call(logits):
    scores = tf.cast(logits, tf.float32)
    shares, log_sums = softmax_and_log_sums(scores)
    at_target = tf.gather(scores, targets, batch_dims=len(targets.shape))

    def gradient(upstream):
      hit = tf.one_hot(targets, logits.shape[-1])
      return tf.cast(upstream[..., None] * (shares - hit), logits.dtype)

    return log_sums[..., 0] - at_target, gradient

  return call(logits)


@traced_once_no_grad
def accumulate(total: tf.Tensor, x: Any) -> tf.Tensor:
  """Returns `total + x`, computed in the dtype of the total."""
  return total + tf.cast(x, total.dtype)
