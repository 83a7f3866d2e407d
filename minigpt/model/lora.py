"""LoRA (Hu et al. 2021): a frozen model, and small matrices that train.

Each dense layer w [in, out] of attention and MLP gets an adapter a [in, R],
b [R, out] and computes x w + (alpha / R) x a b. b starts at zero, so training
starts from the frozen model itself.

`attach` gives a model that computes with adapters, `merge` one of the same
values that no longer has any.
"""

import itertools
import math
from collections.abc import Callable
from typing import NamedTuple

import tensorflow as tf

from minigpt.config import GPTConfig, TrainConfig
from minigpt.model import params
from minigpt.model.params import (
  MLP,
  Adapted,
  Adapter,
  Attention,
  Linear,
  Params,
)


class BlockAdapters(NamedTuple):
  attn: Attention
  mlp: MLP


# One for each block.
Adapters = tuple[BlockAdapters, ...]


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

  return tuple(
    BlockAdapters(
      Attention(*map(adapter, block.attn)), MLP(*map(adapter, block.mlp))
    )
    for block in params.specs(config).blocks
  )


def scale(recipe: TrainConfig) -> float:
  return recipe.lora_alpha / recipe.lora_rank


def attach(p: Params, adapters: Adapters, scale: float) -> Params:
  """The model with an adapter beside each dense layer of its blocks."""

  def linear(layer: Linear, adapter: Adapter) -> Adapted:
    return Adapted(layer, adapter, tf.constant(scale))

  return _with(p, adapters, linear)


def merge(p: Params, adapters: Adapters, scale: float) -> Params:
  """The model with each adapter added to the weights beside it."""

  def linear(layer: Linear, adapter: Adapter) -> Linear:
    return layer._replace(w=layer.w + scale * tf.matmul(adapter.a, adapter.b))

  return _with(p, adapters, linear)


def _with(
  p: Params,
  adapters: Adapters,
  linear: Callable[[Linear, Adapter], Linear | Adapted],
) -> Params:
  blocks = tuple(
    block._replace(
      attn=Attention(*map(linear, block.attn, of_block.attn)),
      mlp=MLP(*map(linear, block.mlp, of_block.mlp)),
    )
    for block, of_block in zip(p.blocks, adapters, strict=True)
  )
  return p._replace(blocks=blocks)
