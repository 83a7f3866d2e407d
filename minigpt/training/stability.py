"""Numbers that break: steps that went wrong, batches to leave out, and causes.

What is left out is kept in `skipped.json`, which is written before the run
continues without the batch, so a run that is killed leaves out the same ones.

The cause of numbers that are not finite is found by a step that runs eagerly,
under a hook that keeps every intermediate. It is slow, and used for one batch.

Shapes: A accumulated gradients, B batch, T context.
"""

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from minigpt.config import GPTConfig, TrainConfig
from minigpt.errors import InputError
from minigpt.model import params as params_lib
from minigpt.model.hooks import capture
from minigpt.model.layers import fold_in
from minigpt.model.params import Params, named_leaves
from minigpt.runtime.atomic_io import write_text
from minigpt.training.metrics import Record
from minigpt.training.state import TrainState
from minigpt.training.step import Batch, batch_loss, step_rng

WINDOW = 50  # Losses that a new one is compared with.
MOST_SKIPPED = 10  # Batches left out since a checkpoint.


class Broken(NamedTuple):
  """A step whose numbers are not finite, or whose loss is a spike."""

  record: Record
  can_skip: bool  # the guard is on, and knows enough losses to judge


def first_broken(
  records: Sequence[Record], losses: Sequence[float], width: float
) -> Broken | None:
  """Finds the first step that went wrong.

  Args:
    records: new steps.
    losses: of the steps before them.
    width: of `is_spike`.
  """
  n, losses = len(losses), list(losses)
  for record in records:
    if is_spike(record, losses, width) or not is_finite(record):
      return Broken(record, bool(width) and n >= WINDOW)
    losses.append(record['train_loss'])
  return None


def is_finite(record: Record) -> bool:
  """Tells whether a step's loss and gradient are finite."""
  return math.isfinite(record['train_loss']) and math.isfinite(
    record['grad_norm']
  )


def is_spike(record: Record, losses: Sequence[float], width: float) -> bool:
  """Tells whether a loss is far above the last ones.

  A loss that is not finite is a spike too. Before `WINDOW` losses, none is.

  Args:
    record: the step.
    losses: of all steps before it.
    width: standard deviations above the mean; 0 makes nothing a spike.
  """
  if not width or len(losses) < WINDOW:
    return False
  recent = np.array(losses[-WINDOW:])
  limit = recent.mean() + width * recent.std()
  return not is_finite(record) or record['train_loss'] > limit


def read_skipped(path: str | Path) -> list[dict[str, Any]]:
  """Reads what `skip` wrote: step, batch and loss of each spike.

  Raises:
    InputError: the file is damaged.
  """
  path = Path(path)
  try:
    entries = json.loads(path.read_text(encoding='utf-8'))
    if not isinstance(entries, list):
      raise ValueError('it is no list')
    if any(type(entry['batch']) is not int for entry in entries):
      raise ValueError('a batch has no number')
    return entries
  except FileNotFoundError:
    return []
  except (OSError, KeyError, TypeError, ValueError, RecursionError) as error:
    raise InputError(
      f'{path} is no list of skipped batches ({error}); bring it back from a '
      'copy: without it the run cannot be continued exactly'
    ) from None


def skip(path: str | Path, record: Record, batch: int) -> None:
  """Adds the batch of a spike to the file."""
  path = Path(path)
  entry = {'step': record['step'], 'batch': batch, 'loss': record['train_loss']}
  write_text(path, json.dumps([*read_skipped(path), entry], indent=2) + '\n')


def trace(
  batch: Batch, p: Params, config: GPTConfig, rng: tf.Tensor | None
) -> dict[str, tf.Tensor]:  # int [B, T + 1]
  """Returns every captured tensor in the order of computation, and `loss`."""
  loss, seen = capture(batch_loss)(batch, p, config, rng)
  return seen | {'loss': loss}


def first_nonfinite(
  windows: Batch, state: TrainState, config: GPTConfig, recipe: TrainConfig
) -> str:  # int [A, B, T + 1]
  """Names the first tensor of a step that is not finite, in a clause.

  It looks at the state before the step, then for each accumulated batch at
  what is computed forward, then backward.
  """
  for part, tree in {'frozen': state.frozen, **state.parts()}.items():
    for name, leaf in named_leaves(tree, part).items():
      if _is_broken(name, leaf):
        return f'{name} was not finite before the step'
  for i in range(tf.nest.flatten(windows)[0].shape[0]):
    rng = fold_in(step_rng(state.step, config, recipe), i)
    batch = tf.nest.map_structure(lambda part: part[i], windows)  # noqa: B023
    found = _first_in_batch(batch, state, config, recipe, rng)
    if found:
      return found
  return (
    'repeated operation by operation, the step is finite: it overflows only as '
    'compiled'
  )


def _first_in_batch(
  batch: Batch,
  state: TrainState,
  config: GPTConfig,
  recipe: TrainConfig,
  rng: tf.Tensor | None,
) -> str:
  with tf.GradientTape() as tape:
    full = state.full_params(state.params)
    model = params_lib.cast(full, recipe.compute_dtype)
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
