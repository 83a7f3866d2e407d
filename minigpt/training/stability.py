"""Detects loss spikes and values that are not finite, and finds their cause.

Batches that caused a spike are skipped. Their numbers are written to
`skipped.json` before the run continues, so that a run that is killed and
restarted skips the same batches.

To find the first value that is not finite, one step is repeated eagerly, under
a hook that keeps every intermediate. This is slow, and done for one batch only.

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

WINDOW = 50  # Recent losses with which a new loss is compared.
MOST_SKIPPED = 10  # Batches that may be skipped after a checkpoint.


class Broken(NamedTuple):
  """A step whose loss or gradient is not finite, or whose loss is a spike."""

  record: Record
  can_skip: bool  # the guard is on, and has seen enough losses to judge


def first_broken(
  records: Sequence[Record], losses: Sequence[float], width: float
) -> Broken | None:
  """Returns the first broken step, if there is one.

  Args:
    records: the new steps.
    losses: of all steps before them.
    width: see `is_spike`.
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
  """Tells whether a loss is far above the recent ones, or not finite.

  The first `WINDOW` losses are never spikes.

  Args:
    record: the step.
    losses: of all steps before it.
    width: the limit, in standard deviations above the mean; 0: no limit.
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
      raise ValueError('it is not a list')
    if any(type(entry['batch']) is not int for entry in entries):
      raise ValueError('a batch has no number')
    return entries
  except FileNotFoundError:
    return []
  except (OSError, KeyError, TypeError, ValueError, RecursionError) as error:
    raise InputError(
      f'{path} is not a list of skipped batches ({error}); restore it from a '
      'backup: without it the run cannot continue exactly'
    ) from None


def skip(path: str | Path, record: Record, batch: int) -> None:
  """Adds the batch of a spike to the file of skipped batches."""
  path = Path(path)
  entry = {'step': record['step'], 'batch': batch, 'loss': record['train_loss']}
  write_text(path, json.dumps([*read_skipped(path), entry], indent=2) + '\n')


def trace(
  batch: Batch, p: Params, config: GPTConfig, rng: tf.Tensor | None
) -> dict[str, tf.Tensor]:  # int [B, T + 1]
  """Returns all intermediates in the order of computation, and `loss`."""
  loss, seen = capture(batch_loss)(batch, p, config, rng)
  return seen | {'loss': loss}


def first_nonfinite(
  windows: Batch, state: TrainState, config: GPTConfig, recipe: TrainConfig
) -> str:  # int [A, B, T + 1]
  """Names the first tensor of a step that is not finite, as part of a message.

  It checks the state before the step, and then, for each accumulated batch, the
  forward and the backward pass.
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
    'the step is finite when repeated eagerly: only the compiled program '
    'overflows'
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
  # In the order of the backward pass: from the loss back, then the weights.
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
  if name.endswith('.scores'):  # The mask sets hidden scores to -inf.
    is_fine |= x == -math.inf
  return not bool(tf.reduce_all(is_fine))
