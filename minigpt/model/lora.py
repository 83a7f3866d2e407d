"""LoRA (Hu et al. 2021): small trainable matrices added to a frozen model.

Each dense layer w [in, out] of attention and MLP gets an adapter a [in, R],
b [R, out] and computes x w + (alpha / R) x a b. b starts at zero, so training
starts from the frozen model itself.

`attach` returns a model that computes with adapters; `merge` adds the adapters
to the weights and returns an ordinary model of the same outputs.
"""

import itertools
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import tensorflow as tf

from minigpt.config import GPTConfig
from minigpt.model import params
from minigpt.model.layers import linear
from minigpt.model.params import Attention, Dense, Leaf, Linear, Params


class Adapter(NamedTuple):
  """The trainable matrices of a dense layer."""

  a: Leaf  # [in, R]
  b: Leaf  # [R, out]


class Adapted(NamedTuple):
  """A dense layer to which `scale * a b` is added."""

  layer: Linear
  adapter: Adapter
  scale: Leaf  # []


class BlockAdapters(NamedTuple):
  """The adapters of one block, in the fields of its dense layers."""

  attn: Attention
  mlp: params.MLP


# One for each block.
Adapters = tuple[BlockAdapters, ...]


@linear.overload(lambda p, **_: isinstance(p, Adapted))
def adapted_linear(
  x: tf.Tensor, p: Adapted
) -> tf.Tensor:  # [..., in] -> [..., out]
  """Computes x w + b + scale x a b (Hu et al. 2021, equation 3)."""
  y, (a, b) = linear(x, p.layer), p.adapter
  return y + tf.cast(p.scale, y.dtype) * linear(linear(x, Linear(a)), Linear(b))


def init_adapters(config: GPTConfig, rank: int, seed: int = 0) -> Adapters:
  """Draws a from normal(0, 1 / in) and sets b to zero."""
  draws = itertools.count()

  def adapter(layer: Linear) -> Adapter:
    n_in, n_out = layer.w.shape
    rng = [seed, next(draws)]
    a = tf.random.stateless_normal([n_in, rank], rng, alg='philox')
    return Adapter(
      tf.Variable(a / math.sqrt(n_in)), tf.Variable(tf.zeros([rank, n_out]))
    )

  return _map_layers(adapter, params.specs(config).blocks)


def attach(p: Params, adapters: Adapters, scale: float) -> Params:
  """Returns the model with an adapter for each dense layer of its blocks."""
  return _with(
    p, adapters, lambda layer, ab: Adapted(layer, ab, tf.constant(scale))
  )


def merge(p: Params, adapters: Adapters, scale: float) -> Params:
  """Returns the model with each adapter added to its layer's weights."""

  def add(layer: Linear, ab: Adapter) -> Linear:
    return layer._replace(w=layer.w + scale * tf.matmul(ab.a, ab.b))

  return _with(p, adapters, add)


def _with(
  p: Params, adapters: Adapters, change: Callable[..., Dense]
) -> Params:
  changed = _map_layers(change, p.blocks, adapters)
  blocks = zip(p.blocks, changed, strict=True)
  return p._replace(blocks=tuple(b._replace(**c._asdict()) for b, c in blocks))


def _map_layers(f: Callable[..., Dense], *blocks: Any) -> Adapters:
  """Maps `f` over the dense layers of one or several sequences of blocks."""
  return tuple(
    BlockAdapters(
      Attention(*map(f, *(b.attn for b in layers))),
      params.MLP(*map(f, *(b.mlp for b in layers))),
    )
    for layers in zip(*blocks, strict=True)
  )
