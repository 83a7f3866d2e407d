"""AdamW and Muon with warm-up, decay and clipping, as pure functions."""

import functools
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import tensorflow as tf

from minigpt.compiler import subgraphs
from minigpt.config import TrainConfig
from minigpt.kernels.elementwise import row_sums
from minigpt.model.params import Leaf, named_leaves
from minigpt.training.muon import orthogonal


class Moments(NamedTuple):
  """Running averages, of one parameter or of a whole tree.

  Both are kept whichever optimizer looks at them.
  """

  mu: Leaf  # of the gradient
  nu: Leaf  # of its square


def learning_rate(step: tf.Tensor, config: TrainConfig) -> tf.Tensor:
  """Linear warm-up, then down to the lowest rate at the end.

  Half a cosine down; or, for `wsd` (Hu et al. 2024, section 4), the highest
  rate held until the last steps, in which it falls in a line.

  Args:
    step: int [], counted from 0.
  """
  c = config
  step = tf.cast(step, tf.float32)
  warmup = (step + 1) / (c.warmup_steps + 1)
  decay_steps = max(c.steps - c.warmup_steps, 1)
  progress = tf.clip_by_value((step - c.warmup_steps) / decay_steps, 0.0, 1.0)
  if c.schedule == 'wsd':
    share = tf.minimum((1 - progress) / c.decay_share, 1.0)
  else:
    share = 0.5 * (1 + tf.cos(math.pi * progress))
  low, high = c.min_learning_rate, c.learning_rate
  return tf.where(
    step < c.warmup_steps, high * warmup, low + (high - low) * share
  )


def global_norm(grads: Any) -> tf.Tensor:  # a tree -> []
  """The length of all gradients as one vector.

  Computed in f32.
  """
  return tf.sqrt(tf.add_n([_squares(x) for x in tf.nest.flatten(grads)]))


@subgraphs.traced_once_no_grad
def _squares(x: tf.Tensor) -> tf.Tensor:  # [...] -> []
  x = tf.square(tf.cast(x, tf.float32))
  return tf.reduce_sum(row_sums(x) if x.shape.rank > 1 else x)


def clip_scale(norm: tf.Tensor, limit: float) -> tf.Tensor:
  """Factor that brings a gradient of global `norm` down to `limit`.

  Pascanu et al. 2013, algorithm 1; a limit of 0 clips nothing.
  """
  return tf.minimum(1.0, limit / norm) if limit else tf.ones([])


# What a step with these moments takes off a parameter, at a rate of 1. It is
# called with the parameter, its moments, the step (int [], counted from 0) and
# the recipe.
Direction = Callable[[tf.Tensor, Moments, tf.Tensor, TrainConfig], tf.Tensor]


@subgraphs.traced_once_no_grad
def update(
  param: tf.Tensor,
  grad: tf.Tensor,
  moments: Moments,
  step: tf.Tensor,
  rate: tf.Tensor,
  scale: tf.Tensor | float = 1.0,
  *,
  config: TrainConfig,
  direction: Direction,
) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
  """One optimizer step.

  Args:
    step: int [], counted from 0.
    rate: f32 [], learning rate.
    scale: f32 [], what the gradient is multiplied with first.

  Returns:
    The new parameter and its new moments mu and nu.
  """
  c = config
  grad = scale * tf.cast(grad, tf.float32)
  mu = c.beta1 * moments.mu + (1 - c.beta1) * grad
  nu = c.beta2 * moments.nu + (1 - c.beta2) * tf.square(grad)
  return param - rate * direction(param, Moments(mu, nu), step, c), mu, nu


def adamw_direction(
  param: tf.Tensor, moments: Moments, step: tf.Tensor, config: TrainConfig
) -> tf.Tensor:
  """Loshchilov & Hutter 2019, algorithm 2.

  Only matrices decay: biases and gains have no direction to shrink.
  """
  c = config
  t = tf.cast(step + 1, tf.float32)
  mu_hat = moments.mu / (1 - c.beta1**t)
  nu_hat = moments.nu / (1 - c.beta2**t)
  decay = c.weight_decay if len(param.shape) > 1 else 0.0
  return mu_hat / (tf.sqrt(nu_hat) + 1e-8) + decay * param


def muon_direction(
  param: tf.Tensor,
  moments: Moments,
  step: tf.Tensor,
  config: TrainConfig,
  n_parts: int = 1,
) -> tf.Tensor:
  """Muon (Jordan et al. 2024) with decay, without Nesterov's step ahead.

  Args:
    n_parts: matrices that lie side by side in `param`.
  """
  return orthogonal(moments.mu, n_parts) + config.weight_decay * param


_muon_qkv_direction = functools.partial(muon_direction, n_parts=3)


def directions(params: Any, config: TrainConfig) -> Any:
  """The tree with the direction in which each leaf is to move.

  Muon is for hidden weights: embeddings, head, biases and gains are AdamW's
  in any case. Queries, keys and values are three matrices.
  """

  def choose(name: str, leaf: Leaf) -> Direction:
    is_hidden = len(leaf.shape) == 2 and name not in ('wte', 'wpe', 'head')
    if config.optimizer == 'adamw' or not is_hidden:
      return adamw_direction
    is_qkv = name.endswith(('c_attn.w', 'c_attn.b'))  # b: of an adapter.
    return _muon_qkv_direction if is_qkv else muon_direction

  chosen = [choose(*named) for named in named_leaves(params).items()]
  return tf.nest.pack_sequence_as(params, chosen)
