"""Where the numbers broke: a step made again, piece by piece.

The model runs eagerly under a hook that keeps every intermediate. It is slow,
and used for one batch: that of a step whose loss or gradient is not finite.

Shapes: A accumulated gradients, B batch, T context.
"""

import math
from typing import Any

import tensorflow as tf

from minigpt.config import GPTConfig, TrainConfig
from minigpt.model import params as params_lib
from minigpt.model.hooks import capture
from minigpt.model.layers import fold_in
from minigpt.model.params import Params, named_leaves
from minigpt.training.step import Batch, TrainState, batch_loss, step_rng


def trace(
  batch: Batch, p: Params, config: GPTConfig, rng: tf.Tensor | None
) -> dict[str, tf.Tensor]:  # int [B, T + 1]
  """Every captured tensor in the order of its making, and the `loss`."""
  loss, seen = capture(batch_loss)(batch, p, config, rng)
  return seen | {'loss': loss}


def culprit(
  windows: Batch, state: TrainState, config: GPTConfig, recipe: TrainConfig
) -> str:  # int [A, B, T + 1]
  """The first tensor of a step that is not finite, in words.

  Looked at are the state before the step, then for each accumulated batch
  what is computed forward, then backward.
  """
  for part, tree in {'frozen': state.frozen, **state.parts()}.items():
    for name, leaf in named_leaves(tree, part).items():
      if _is_broken(name, leaf):
        return f'{name} was not finite before the step'
  for i in range(tf.nest.flatten(windows)[0].shape[0]):
    rng = fold_in(step_rng(state.step, config, recipe), i)
    batch = tf.nest.map_structure(lambda part: part[i], windows)  # noqa: B023
    found = _broken_in(batch, state, config, recipe, rng)
    if found:
      return found
  return (
    'made again piece by piece, the step is finite: it overflows only as '
    'compiled'
  )


def _broken_in(batch, state, config, recipe, rng) -> str:
  with tf.GradientTape() as tape:
    model = params_lib.cast(state.whole(state.params), recipe.compute_dtype)
    forward = trace(batch, model, config, rng)
  for name, tensor in forward.items():
    if _is_broken(name, tensor):
      return f'{name} was the first to break in the forward pass'
  # Backward, the loss comes first; a weight comes after what it produced.
  trained = named_leaves(state.params, 'adapters' if state.frozen else '')
  sources = dict(reversed(forward.items())) | trained
  gradients = tape.gradient(forward['loss'], list(sources.values()))
  for name, gradient in zip(sources, gradients, strict=True):
    if _is_broken(f'gradient of {name}', gradient):
      return (
        f'the gradient of {name} was the first to break in the backward pass'
      )
  return ''


def _is_broken(name: str, x: Any) -> bool:
  x = tf.convert_to_tensor(x)
  if not x.dtype.is_floating:
    return False
  is_fine = tf.math.is_finite(x)
  if name.endswith('.scores'):  # A mask hides a key by minus infinity.
    is_fine |= x == -math.inf
  return not bool(tf.reduce_all(is_fine))
