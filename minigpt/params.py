"""The parameters of a GPT: nested NamedTuples of `tf.Variable`.

Fields carry the names of OpenAI's GPT-2 checkpoint and weights are stored
`[in, out]` as it stores them, so exchanging weights is a table of names. An
absent leaf (a bias that the config leaves out, the head of a tied model) is
the empty tuple: `tf.nest` skips it, `tape.gradient` accepts it.

Shapes: V vocabulary, C context length, D emb_dim, F mlp_dim.
"""

import math
from typing import Any, NamedTuple

import tensorflow as tf

from minigpt.config import GPTConfig

# tf.Variable in a model; tf.Tensor after a cast or inside a gradient.
Leaf = Any
ABSENT = ()


def is_absent(leaf: Leaf) -> bool:
  return isinstance(leaf, tuple)


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


def init_params(config: GPTConfig, seed: int = 0) -> Params:
  """Draws GPT-2's initial weights: normal(0, init_std), biases 0, gains 1.

  Projections back into the residual stream are scaled by 1/sqrt(2 * n_layers),
  one factor for each of the additions on the way (Radford et al. 2019, 2.3).
  The same seed gives the same weights on every device.
  """
  c = config
  draws = iter(range(2**31))

  def normal(*shape: int, std: float = c.init_std) -> tf.Variable:
    rng = [seed, next(draws)]
    return tf.Variable(
      std * tf.random.stateless_normal(shape, rng, alg='philox')
    )

  def linear(
    n_in: int, n_out: int, bias: bool, std: float = c.init_std
  ) -> Linear:
    b = tf.Variable(tf.zeros([n_out])) if bias else ABSENT
    return Linear(normal(n_in, n_out, std=std), b)

  def layernorm() -> LayerNorm:
    b = tf.Variable(tf.zeros([c.emb_dim])) if c.bias else ABSENT
    return LayerNorm(tf.Variable(tf.ones([c.emb_dim])), b)

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
    wte=normal(c.vocab_size, c.emb_dim),
    wpe=normal(c.context_length, c.emb_dim),
    blocks=tuple(block() for _ in range(c.n_layers)),
    ln_f=layernorm(),
    head=ABSENT if c.tie_embeddings else normal(c.vocab_size, c.emb_dim),
  )


def cast(params: Any, dtype: tf.DType) -> Any:
  """Returns the tree with every leaf as a tensor of `dtype`."""
  return tf.nest.map_structure(lambda leaf: tf.cast(leaf, dtype), params)


def count(params: Any) -> int:
  """Number of scalars in the tree."""
  return sum(leaf.shape.num_elements() for leaf in tf.nest.flatten(params))


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
