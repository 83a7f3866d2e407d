"""AdamW and Muon, with gradient clipping, as pure functions."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple, TypeAlias

import tensorflow as tf

from minigpt.compiler import subgraphs
from minigpt.config import TrainConfig
from minigpt.kernels.elementwise import row_sums
from minigpt.model.params import Leaf, named_leaves
from minigpt.training.muon import orthogonalize


class Moments(NamedTuple):
  """Running averages, of one parameter or of a whole tree.

  Both are kept for every parameter, although Muon reads only the first.
  """

  mu: Leaf  # of the gradient
  nu: Leaf  # of its square


def global_norm(grads: Any) -> tf.Tensor:  # a tree -> float32 []
  """Computes the norm of all gradients taken as one vector, in float32."""
  return tf.sqrt(tf.add_n([_squares(x) for x in tf.nest.flatten(grads)]))


@subgraphs.traced_once_no_grad
def _squares(x: tf.Tensor) -> tf.Tensor:  # [...] -> []
  x = tf.square(tf.cast(x, tf.float32))
  return tf.reduce_sum(row_sums(x) if x.shape.rank > 1 else x)


def clip_scale(norm: tf.Tensor, limit: float) -> tf.Tensor:
  """Computes the factor that scales gradients of `norm` down to `limit`.

  Pascanu et al. 2013, algorithm 1; a limit of 0 turns clipping off.
  """
  return tf.minimum(1.0, limit / norm) if limit else tf.ones([])


# An update rule returns what a step with learning rate 1 subtracts from a
# parameter. Arguments: the parameter, its moments, the step (int [], counted
# from 0), and the recipe.
UpdateRule: TypeAlias = Callable[
  [tf.Tensor, Moments, tf.Tensor, TrainConfig], tf.Tensor
]


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
  rule: UpdateRule,
) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
  """Computes one optimizer step of one parameter.

  Args:
    param: the parameter.
    grad: its gradient.
    moments: its running averages before the step.
    step: int [], counted from 0.
    rate: float32 [], learning rate.
    scale: float32 [], factor of the gradient, from `clip_scale`.
    config: the recipe.
    rule: AdamW's or Muon's.

  Returns:
    The new parameter and the new moments mu and nu.
  """
  c = config
  grad = scale * tf.cast(grad, tf.float32)
  mu = c.beta1 * moments.mu + (1 - c.beta1) * grad
  nu = c.beta2 * moments.nu + (1 - c.beta2) * tf.square(grad)
  return param - rate * rule(param, Moments(mu, nu), step, c), mu, nu


def adamw_rule(
  param: tf.Tensor, moments: Moments, step: tf.Tensor, config: TrainConfig
) -> tf.Tensor:
  """Computes AdamW's update (Loshchilov & Hutter 2019, algorithm 2).

  Weight decay applies to matrices only, as usual for GPT models: shrinking
  biases and gains does not regularize.
  """
  c = config
  t = tf.cast(step + 1, tf.float32)
  mu_hat = moments.mu / (1 - c.beta1**t)
  nu_hat = moments.nu / (1 - c.beta2**t)
  decay = c.weight_decay if len(param.shape) > 1 else 0.0
  return mu_hat / (tf.sqrt(nu_hat) + 1e-8) + decay * param


def muon_rule(
  param: tf.Tensor,
  moments: Moments,
  step: tf.Tensor,
  config: TrainConfig,
  n_parts: int = 1,
) -> tf.Tensor:
  """Computes Muon's update with weight decay, without Nesterov momentum.

  Args:
    param: a hidden weight.
    moments: its running averages, after this step's gradient.
    step: unused.
    config: the recipe.
    n_parts: how many matrices `param` holds side by side.
  """
  return orthogonalize(moments.mu, n_parts) + config.weight_decay * param


_muon_qkv_rule = functools.partial(muon_rule, n_parts=3)


def update_rules(params: Any, config: TrainConfig) -> Any:
  """Returns the tree with the update rule of each leaf.

  Muon is for hidden weight matrices; embeddings, head, biases and gains always
  get AdamW. Queries, keys and values count as three matrices.
  """

  def choose(name: str, leaf: Leaf) -> UpdateRule:
    is_hidden = len(leaf.shape) == 2 and name not in ('wte', 'wpe', 'head')
    if config.optimizer == 'adamw' or not is_hidden:
      return adamw_rule
    # A hidden matrix c_attn.b is an adapter's.
    is_qkv = name.endswith(('c_attn.w', 'c_attn.b'))
    return _muon_qkv_rule if is_qkv else muon_rule

  chosen = [choose(*named) for named in named_leaves(params).items()]
  return tf.nest.pack_sequence_as(params, chosen)
