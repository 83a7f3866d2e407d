"""The parameters of a GPT: nested NamedTuples of `tf.Variable`.

Fields carry the names of OpenAI's GPT-2 checkpoint and weights are stored
`[in, out]` as it stores them, so exchanging weights is a table of names. An
absent leaf (a bias that the config leaves out, the head of a tied model) is
the empty tuple: `tf.nest` skips it, `tape.gradient` accepts it.

Shapes: V vocabulary and its padding, C context length, D emb_dim, F mlp_dim.
"""

import itertools
import math
import zlib
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from minigpt.config import GPTConfig

# tf.Variable in a model; tf.Tensor after a cast or inside a gradient.
Leaf = Any
ABSENT = ()


def is_absent(leaf: Leaf) -> bool:
  return isinstance(leaf, tuple) and not leaf


class Linear(NamedTuple):
  w: Leaf  # [in, out]
  b: Leaf = ABSENT  # [out]


class LayerNorm(NamedTuple):
  g: Leaf  # [D]
  b: Leaf = ABSENT  # [D]


class Attention(NamedTuple):
  c_attn: Linear  # [D, 3D]: queries, keys and values side by side
  c_proj: Linear  # [D, D]


class MLP(NamedTuple):
  c_fc: Linear  # [D, F]
  c_proj: Linear  # [F, D]


class Block(NamedTuple):
  ln_1: LayerNorm
  attn: Attention
  ln_2: LayerNorm
  mlp: MLP


class Params(NamedTuple):
  wte: Leaf  # [V, D] token embeddings
  wpe: Leaf  # [C, D] position embeddings
  blocks: tuple[Block, ...]
  ln_f: LayerNorm
  head: Leaf = ABSENT  # [V, D]; absent when wte serves as the head too


def build(
  config: GPTConfig, leaf: Callable[[list[int], float, float], Leaf]
) -> Params:
  """The tree of a model, each leaf made by `leaf(shape, mean, std)`.

  Mean and deviation are those of GPT-2's initial weights: normal(0, init_std),
  biases 0, gains 1. Projections back into the residual stream are scaled by
  1/sqrt(2 * n_layers), one factor for each of the additions on the way
  (Radford et al. 2019, 2.3).
  """
  c = config
  n_rows = c.vocab_size + c.vocab_padding

  def vector(n: int, present: bool = True, mean: float = 0.0) -> Leaf:
    return leaf([n], mean, 0.0) if present else ABSENT

  def linear(
    n_in: int, n_out: int, bias: bool, std: float = c.init_std
  ) -> Linear:
    return Linear(leaf([n_in, n_out], 0.0, std), vector(n_out, bias))

  def layernorm() -> LayerNorm:
    return LayerNorm(vector(c.emb_dim, mean=1.0), vector(c.emb_dim, c.bias))

  def embedding(n: int) -> Leaf:
    return leaf([n, c.emb_dim], 0.0, c.init_std)

  residual_std = c.init_std / math.sqrt(2 * c.n_layers)

  def block() -> Block:
    return Block(
      ln_1=layernorm(),
      attn=Attention(
        c_attn=linear(c.emb_dim, 3 * c.emb_dim, c.qkv_bias),
        c_proj=linear(c.emb_dim, c.emb_dim, c.bias, residual_std),
      ),
      ln_2=layernorm(),
      mlp=MLP(
        c_fc=linear(c.emb_dim, c.mlp_dim, c.bias),
        c_proj=linear(c.mlp_dim, c.emb_dim, c.bias, residual_std),
      ),
    )

  return Params(
    wte=embedding(n_rows),
    wpe=embedding(c.context_length),
    blocks=tuple(block() for _ in range(c.n_layers)),
    ln_f=layernorm(),
    head=ABSENT if c.tie_embeddings else embedding(n_rows),
  )


def init_params(config: GPTConfig, seed: int = 0) -> Params:
  """Draws initial weights; the same seed, the same weights on every device."""
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
  """The tree with the shape of each leaf as a tf.TensorSpec: no memory."""
  return build(config, lambda shape, mean, std: tf.TensorSpec(shape))


def cast(params: Any, dtype: tf.DType) -> Any:
  """Returns the tree as tensors, matrices in `dtype`.

  Gains and biases stay f32: what they are added to is rounded afterwards.
  """

  def of(leaf):
    x = tf.convert_to_tensor(leaf)
    return tf.cast(x, dtype) if x.shape.rank > 1 else x

  return tf.nest.map_structure(of, params)


def count(params: Any) -> int:
  """Number of scalars in the tree."""
  return sum(leaf.shape.num_elements() for leaf in tf.nest.flatten(params))


def checksum(tree: Any) -> int:
  """CRC-32 over the bytes of all leaves."""
  total = 0
  for leaf in tf.nest.flatten(tree):
    total = zlib.crc32(np.ascontiguousarray(leaf), total)
  return total


def named_leaves(tree: Any, prefix: str = '') -> dict[str, Leaf]:
  """Flattens to `{'blocks.0.attn.c_attn.w': leaf, ...}` in the tree's order."""
  if hasattr(tree, '_fields'):
    parts = zip(tree._fields, tree, strict=True)
  elif isinstance(tree, tuple):
    parts = ((str(i), part) for i, part in enumerate(tree))
  else:
    return {prefix: tree}
  leaves = {}
  for name, part in parts:
    leaves |= named_leaves(part, f'{prefix}.{name}' if prefix else name)
  return leaves
