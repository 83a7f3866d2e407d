"""The parameters of a GPT: nested NamedTuples of `tf.Variable`.

Fields are named as in OpenAI's GPT-2 checkpoint, and weights are `[in, out]`,
as stored there. An absent leaf (a bias that the config leaves out, the head of
a model with tied embeddings) is `()`: `tf.nest` skips it, a tape accepts it.

Shapes: V vocabulary and its padding, C context length, D emb_dim, F mlp_dim.
"""

import itertools
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import tensorflow as tf

from minigpt.config import GPTConfig

# A tf.Variable in a model; a tf.Tensor after a cast or inside a gradient.
Leaf = Any
# A Linear; in the trees of `lora` also an Adapted or an Adapter.
Dense = Any
ABSENT = ()


def is_absent(leaf: Leaf) -> bool:
  """Tells whether the config leaves this leaf out."""
  return isinstance(leaf, tuple) and not leaf


class Linear(NamedTuple):
  """A dense layer."""

  w: Leaf  # [in, out]
  b: Leaf = ABSENT  # [out]


class LayerNorm(NamedTuple):
  """Gain and bias of a normalization."""

  g: Leaf  # [D]
  b: Leaf = ABSENT  # [D]


class Attention(NamedTuple):
  """The projections of attention."""

  c_attn: Dense  # [D, 3D]: queries, keys and values side by side
  c_proj: Dense  # [D, D]


class MLP(NamedTuple):
  """The two layers of an MLP."""

  c_fc: Dense  # [D, F]
  c_proj: Dense  # [F, D]


class Block(NamedTuple):
  """A transformer block."""

  ln_1: LayerNorm
  attn: Attention
  ln_2: LayerNorm
  mlp: MLP


class Params(NamedTuple):
  """A whole model."""

  wte: Leaf  # [V, D] token embeddings
  wpe: Leaf  # [C, D] position embeddings
  blocks: tuple[Block, ...]
  ln_f: LayerNorm
  head: Leaf = ABSENT  # [V, D]; absent when wte serves as the head too


def build(
  config: GPTConfig, leaf: Callable[[list[int], float, float], Leaf]
) -> Params:
  """Returns the tree of a model, each leaf made by `leaf(shape, mean, std)`.

  GPT-2's initial weights are normal(0, init_std), biases 0, gains 1. The
  2 * n_layers layers that add to the residual stream start smaller, by
  1/sqrt(2 * n_layers) (Radford et al. 2019, 2.3).
  """
  c, d, f = config, config.emb_dim, config.mlp_dim
  n_rows = c.vocab_size + c.vocab_padding
  back = c.init_std / math.sqrt(2 * c.n_layers)

  def vector(n: int, present: bool = True, mean: float = 0.0) -> Leaf:
    return leaf([n], mean, 0.0) if present else ABSENT

  def matrix(n_in: int, n_out: int, std: float = c.init_std) -> Leaf:
    return leaf([n_in, n_out], 0.0, std)

  def layernorm() -> LayerNorm:
    return LayerNorm(vector(d, mean=1.0), vector(d, c.bias))

  def block() -> Block:
    c_attn = Linear(matrix(d, 3 * d), vector(3 * d, c.qkv_bias))
    attn = Attention(c_attn, Linear(matrix(d, d, back), vector(d, c.bias)))
    c_fc = Linear(matrix(d, f), vector(f, c.bias))
    mlp = MLP(c_fc, Linear(matrix(f, d, back), vector(d, c.bias)))
    return Block(layernorm(), attn, layernorm(), mlp)

  return Params(
    wte=matrix(n_rows, d),
    wpe=matrix(c.context_length, d),
    blocks=tuple(block() for _ in range(c.n_layers)),
    ln_f=layernorm(),
    head=ABSENT if c.tie_embeddings else matrix(n_rows, d),
  )


def init_params(config: GPTConfig, seed: int = 0) -> Params:
  """Draws initial weights; a seed gives the same weights on every device."""
  draws = itertools.count()

  def draw(shape: list[int], mean: float, std: float) -> tf.Variable:
    if std == 0:
      return tf.Variable(tf.fill(shape, mean))
    rng = [seed, next(draws)]
    return tf.Variable(
      mean + std * tf.random.stateless_normal(shape, rng, alg='philox')
    )

  return build(config, draw)


def specs(config: GPTConfig) -> Params:
  """Returns the tree with a tf.TensorSpec for each leaf, without memory."""
  return build(config, lambda shape, mean, std: tf.TensorSpec(shape))


def cast(params: Any, dtype: tf.DType) -> Any:
  """Returns the tree as tensors, matrices in `dtype`.

  Gains and biases stay float32; a sum with one is rounded only at the end.
  """

  def cast_leaf(leaf: Leaf) -> tf.Tensor:
    x = tf.convert_to_tensor(leaf)
    return tf.cast(x, dtype) if x.shape.rank > 1 else x

  return tf.nest.map_structure(cast_leaf, params)


def count(params: Any) -> int:
  """Returns the number of scalars in the tree."""
  return sum(leaf.shape.num_elements() for leaf in tf.nest.flatten(params))


def named_leaves(tree: Any, prefix: str = '') -> dict[str, Leaf]:
  """Flattens to `{'blocks.0.attn.c_attn.w': leaf, ...}` in the tree's order."""
  if not isinstance(tree, tuple):
    return {prefix: tree}
  names = getattr(tree, '_fields', map(str, range(len(tree))))
  leaves: dict[str, Leaf] = {}
  for name, part in zip(names, tree, strict=True):
    leaves |= named_leaves(part, f'{prefix}.{name}' if prefix else name)
  return leaves
