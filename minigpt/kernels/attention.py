"""Attention with less work and less memory.

  fused_attention             computes weights from scores in one pass
  memory_efficient_attention  keeps no attention weights for the gradient
  blockwise_attention         skips most of the keys that the mask hides

Why: a tape would keep the attention weights [..., T, S] of every layer, and a
causal mask discards half of all computed scores. No kernel shows intermediates
to hooks, so an observed model runs the definition.

Measured on 2 cores of Zen 5 (docs/design/performance_notes.md): the gradient
with log sums saves 2.5% of a training step; `minigpt bench --what=prefill`
shows the effect of blocks.

Shapes: T queries, S keys, K head size.
"""

import math

import tensorflow as tf

from minigpt.compiler.backend import COMPILED, current
from minigpt.compiler.barriers import depend_on
from minigpt.compiler.remat import worth_rematerializing
from minigpt.compiler.subgraphs import compiled_island, traced_once_no_grad
from minigpt.kernels.elementwise import row_sums, softmax_and_log_sums
from minigpt.kernels.onednn_matmul import matmul
from minigpt.model.attention import causal_mask, dot_product_attention
from minigpt.model.hooks import Hook, no_hook
from minigpt.model.layers import dropout, fold_in, sizes

# Queries in a block. Smaller blocks skip more keys, but take longer to compile.
N_QUERIES = 256


def _is_long(q, causal, hook, **_) -> bool:
  n = q.shape[-2]
  return hook is no_hook and causal and n is not None and n > N_QUERIES


@dot_product_attention.implementation(*COMPILED, supports=_is_long)
def blockwise_attention(
  q: tf.Tensor,
  k: tf.Tensor,
  v: tf.Tensor,
  mask: tf.Tensor | None = None,
  causal: bool = True,
  drop_rate: float = 0.0,
  rng: tf.Tensor | None = None,
  hook: Hook = no_hook,
) -> tf.Tensor:  # [..., T, K], [..., T, K], [..., T, K] -> [..., T, K]
  """Attends causally in blocks of queries.

  A block is not multiplied with the keys after it, which saves up to half of
  the work for long sequences.
  """
  n = q.shape[-2]
  mask = causal_mask(n)
  starts = range(0, n, N_QUERIES)
  lengths = [min(N_QUERIES, n - start) for start in starts]

  def attend(start: int, q: tf.Tensor) -> tf.Tensor:
    end = start + q.shape[-2]
    visible, key = mask[start:end, :end], fold_in(rng, start)
    # TensorFlow's kernels would copy even a slice of the whole tensor.
    keys, values = (x if end == n else _first(x, end) for x in (k, v))
    return dot_product_attention(
      q, keys, values, visible, False, drop_rate, key
    )

  blocks = map(attend, starts, tf.split(q, lengths, -2))
  return tf.concat(list(blocks), -2)


def _first(x, n):  # [..., T, K] -> [..., n, K]
  # In TensorFlow's kernels, the gradient of x[..., :n, :] is ten times slower.
  *leading, _, n_features = sizes(x)
  return tf.slice(x, [0] * len(x.shape), [*leading, n, n_features])


def _is_large_and_differentiated(q, k, hook, **_) -> bool:
  if hook is not no_hook or current().inference:
    return False
  return worth_rematerializing(*sizes(q)[:-1], sizes(k)[-2])


@dot_product_attention.implementation(
  *COMPILED, supports=_is_large_and_differentiated
)
def memory_efficient_attention(
  q: tf.Tensor,
  k: tf.Tensor,
  v: tf.Tensor,
  mask: tf.Tensor | None = None,
  causal: bool = False,
  drop_rate: float = 0.0,
  rng: tf.Tensor | None = None,
  hook: Hook = no_hook,
) -> tf.Tensor:  # [..., T, K], [..., S, K], [..., S, K] -> [..., T, K]
  """Attends without keeping the attention weights for the gradient.

  The gradient computes q k' again, and the weights from it with the kept sums
  of exponentials (Dao et al. 2022, appendix B.2).
  """
  masks = _masks(q, mask, causal)

  def drop(x):
    return dropout(x, drop_rate, rng)

  @tf.custom_gradient
  def attend(q, k, v):
    scale = _scale(q)
    w, log_sums = weights_and_log_sums(_matmul_qk(q, k), *masks, scale=scale)
    y = matmul(drop(w), v)

    def gradient(dy):
      # Without the barrier, XLA would merge this matmul with the first one,
      # and keep its result until here.
      again = _matmul_qk(depend_on(q, dy), k)
      w = recomputed_weights(again, log_sums, *masks, scale=scale)
      dv = matmul(drop(w), dy, transpose_a=True)
      dw = drop(matmul(dy, v, transpose_b=True))
      ds = scores_gradient(w, dw, y, dy, scale=scale)
      return matmul(ds, k), matmul(ds, q, transpose_a=True), dv

    return y, gradient

  return attend(q, k, v)


def _is_unobserved(hook, **_) -> bool:
  return hook is no_hook


@dot_product_attention.implementation(*COMPILED, supports=_is_unobserved)
def fused_attention(
  q: tf.Tensor,
  k: tf.Tensor,
  v: tf.Tensor,
  mask: tf.Tensor | None = None,
  causal: bool = False,
  drop_rate: float = 0.0,
  rng: tf.Tensor | None = None,
  hook: Hook = no_hook,
) -> tf.Tensor:  # [..., T, K], [..., S, K], [..., S, K] -> [..., T, K]
  """Attends, with one program for everything between the two matmuls."""
  masks = _masks(q, mask, causal)
  weights = attention_weights(_matmul_qk(q, k), *masks, scale=_scale(q))
  return matmul(dropout(weights, drop_rate, rng), v)


def _masks(q, mask, causal):
  """Returns the mask as arguments for a call: a tuple of one, or none."""
  if causal:
    mask = causal_mask(sizes(q)[-2])
  return () if mask is None else (mask,)


def _scale(q):
  return 1 / math.sqrt(q.shape[-1])


def _matmul_qk(q, k):  # [..., T, K], [..., S, K] -> [..., T, S]
  is_one = q.shape[0] == 1 and q.shape[-2] == 1
  if current().is_whole_xla and is_one and q.dtype == tf.float32:
    # For a single query, XLA runs a matmul on one thread, but a sum on all.
    return tf.reduce_sum(q * k, -1)[..., None, :]
  return matmul(q, k, transpose_b=True)


def _scores(qk, mask, scale):  # [..., T, S] -> float32 [..., T, S]
  scores = scale * tf.cast(qk, tf.float32)
  return scores if mask is None else tf.where(mask, scores, -math.inf)


@compiled_island
def attention_weights(
  qk: tf.Tensor, mask: tf.Tensor | None = None, *, scale: float
) -> tf.Tensor:  # [..., T, S] -> [..., T, S]
  """Computes the softmax of scaled and masked q k'; rounds only the result."""
  return tf.cast(tf.nn.softmax(_scores(qk, mask, scale)), qk.dtype)


@traced_once_no_grad
def weights_and_log_sums(
  qk: tf.Tensor, mask: tf.Tensor | None = None, *, scale: float
) -> tuple[tf.Tensor, tf.Tensor]:  # [..., T, S] -> [..., T, S], f32 [..., T, 1]
  """Computes `attention_weights`, and the log-sum-exp of each row."""
  weights, log_sums = softmax_and_log_sums(_scores(qk, mask, scale))
  return tf.cast(weights, qk.dtype), log_sums


@traced_once_no_grad
def recomputed_weights(
  qk: tf.Tensor,
  log_sums: tf.Tensor,
  mask: tf.Tensor | None = None,
  *,
  scale: float,
) -> tf.Tensor:  # [..., T, S], float32 [..., T, 1] -> [..., T, S]
  """Recomputes the weights of `weights_and_log_sums`, in one pass."""
  return tf.cast(tf.exp(_scores(qk, mask, scale) - log_sums), qk.dtype)


@traced_once_no_grad
def scores_gradient(
  weights: tf.Tensor,
  upstream: tf.Tensor,
  y: tf.Tensor,
  dy: tf.Tensor,
  *,
  scale: float,
) -> tf.Tensor:  # [..., T, S] twice, [..., T, K] twice -> [..., T, S]
  """Turns the gradient of the weights into the gradient of q k'.

  The softmax subtracts from `upstream` its weighted mean. That equals y dy',
  which sums over K terms instead of S.
  """
  w, dw, y, dy = (tf.cast(x, tf.float32) for x in (weights, upstream, y, dy))
  mean = row_sums(y * dy)
  return tf.cast(scale * w * (dw - mean), weights.dtype)
