"""The training loss, and its gradient.

Shapes: B batch, T tokens, D emb_dim, V vocabulary.
"""

import math
from collections.abc import Callable
from typing import Any

import tensorflow as tf

from minigpt.compiler.dispatch import Op
from minigpt.config import GPTConfig
from minigpt.model.hooks import Hook, no_hook
from minigpt.model.layers import cross_entropy, sizes
from minigpt.model.params import Params
from minigpt.model.transformer import hidden_states, unembed


def loss_fn(
  windows: tf.Tensor,
  p: Params,
  config: GPTConfig,
  rng: tf.Tensor | None = None,
  hook: Hook = no_hook,
  weights: tf.Tensor | None = None,
  segments: tf.Tensor | None = None,
) -> tf.Tensor:  # int [B, T + 1] -> []
  """Sums the weighted cross entropies, in nats, of all tokens but the first.

  Args:
    weights: float32 [B, T]; None weights all tokens alike: the mean.
    segments: int [B, T] where a row holds several examples; see `gpt`.
  """
  hidden = hidden_states(windows[:, :-1], p, config, rng, hook, segments)
  targets = windows[:, 1:]
  if weights is None:
    weights = tf.fill(sizes(targets), 1 / math.prod(targets.shape))
  return linear_cross_entropy(hidden, targets, weights, p, config)


@Op
def linear_cross_entropy(
  hidden: tf.Tensor,
  targets: tf.Tensor,
  weights: tf.Tensor,
  p: Params,
  config: GPTConfig,
) -> tf.Tensor:  # [B, T, D], int [B, T], float32 [B, T] -> []
  """Unembeds hidden states and sums the weighted cross entropies, in nats."""
  logits = unembed(hidden, p, config)
  return tf.reduce_sum(weights * cross_entropy(logits, targets))


@Op
def value_and_grad(
  loss: Callable[[Any], tf.Tensor], trained: Any
) -> tuple[tf.Tensor, Any]:
  """Returns `loss(trained)` and its gradient, a tree like `trained`."""
  with tf.GradientTape() as tape:
    tape.watch(tf.nest.flatten(trained))
    value = loss(trained)
  grads = tape.gradient(value, trained)
  return value, tf.nest.map_structure(tf.convert_to_tensor, grads)
