"""Writes events of a run for TensorBoard (the `viz` extra).

A `Writer` observes a `Trainer`. It writes the scalars of every step; after each
evaluation also a sample, attention maps and histograms of the parameters; and
once the graph of the model.
"""

import importlib.util
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from minigpt.analysis.introspection import inspect
from minigpt.checkpoints import workdir
from minigpt.compiler import dispatch
from minigpt.errors import UsageError
from minigpt.model.params import named_leaves
from minigpt.model.transformer import gpt
from minigpt.training.metrics import Record
from minigpt.training.optimizers import Moments, update_rules
from minigpt.training.trainer import Observer, Trainer, no_observer

_MOST_TOKENS = 64  # Tokens in an attention map.


def open_writer(path: str | Path, profile_steps: str = '') -> Observer:
  """Returns an observer of a trainer that writes events to `path`.

  If tensorboard is not installed, prints so and returns an observer that does
  nothing.

  Args:
    path: a folder, for `tensorboard --logdir`.
    profile_steps: 'A:B' also profiles the calls that make steps A to B.

  Raises:
    UsageError: `profile_steps` is not such a range.
  """
  steps = _parse_steps(profile_steps)
  if importlib.util.find_spec('tensorboard') is None:
    print(
      'tensorboard is not installed, so nothing is written for it: pip '
      "install 'minigpt[viz]'"
    )
    return no_observer
  return Writer(path, steps)


def _parse_steps(text: str) -> range:
  if not text:
    return range(0)
  first, _, last = text.partition(':')
  if not (first.isdecimal() and last.isdecimal() and int(first) < int(last)):
    raise UsageError(f'profile_steps={text}: it must be two steps like 10:13')
  return range(int(first), int(last))


class Writer:
  """Writes events for `tensorboard --logdir`."""

  def __init__(self, path: str | Path, profile_steps: range = range(0)):
    self._path = str(path)
    self._writer: Any = None  # Created at the first record.
    self._step = 0  # The last step that was written.
    self._to_profile = profile_steps
    self._profiling = False

  def __call__(self, trainer: Trainer, records: list[Record]) -> None:
    """Writes the records of a call, and more after an evaluation."""
    is_first = self._writer is None
    is_new = is_first and not any(Path(self._path).glob('*.tfevents.*'))
    if is_first or records[0]['step'] <= self._step:
      _purge(self._path, records[0]['step'])
      self._writer = tf.summary.create_file_writer(self._path)
    self._step = records[-1]['step']
    with self._writer.as_default():
      if is_first:
        _write_settings(trainer)
      if is_new:  # TensorBoard warns if a folder has two graphs.
        tf.summary.graph(model_graph(trainer))
      for record in records:
        _write_scalars(record)
      if 'val_loss' in records[-1]:
        _write_state(trainer, records[-1]['learning_rate'])
    self._writer.flush()
    self._profile(trainer.step, trainer.recipe.steps)

  def _profile(self, step: int, last: int) -> None:
    """Starts or stops the profiler before the next call, from step + 1 on."""
    if not self._to_profile:
      return
    if self._profiling and step >= min(self._to_profile.stop, last):
      tf.profiler.experimental.stop()
      self._profiling, self._to_profile = False, range(0)
    elif not self._profiling and self._to_profile.start <= step + 1 <= last:
      tf.profiler.experimental.start(self._path)
      self._profiling = True


def _purge(path: str, step: int) -> None:
  """Makes TensorBoard drop the events from `step` on: the run repeats them.

  TensorBoard reads files in the order of their names, which begin with their
  time of creation. So it reads this file before those of later writers.
  """
  v1 = tf.compat.v1
  with tf.Graph().as_default():  # FileWriter refuses to work eagerly.
    writer = v1.summary.FileWriter(path)
  writer.add_session_log(v1.SessionLog(status=v1.SessionLog.START), step)
  writer.close()


def _write_settings(trainer: Trainer) -> None:
  from tensorboard.plugins.hparams import api  # Optional.

  values = workdir.values(trainer.config).items()
  # TensorBoard accepts only numbers and strings.
  api.hparams(
    {n: ' '.join(v) if isinstance(v, tuple) else v for n, v in values}
  )


def model_graph(trainer: Trainer) -> tf.Graph:
  """Returns the graph of the definitions' forward pass, in nested scopes."""
  config = trainer.config.model
  params = trainer.state.full_params(trainer.state.params)

  def forward(tokens):  # int [1, T] -> [1, T, V]
    with dispatch.name_scopes():
      return gpt(tokens, params, config)

  tokens = tf.TensorSpec([1, config.context_length], tf.int32, 'tokens')
  return tf.function(forward).get_concrete_function(tokens).graph


def _write_scalars(record: dict[str, Any]) -> None:
  """Writes all scalars of a step with one operation, to save time."""
  from tensorboard.plugins.scalar import summary_v2  # Optional.

  # Concatenated Protocol Buffers messages parse as one merged message.
  content = b''.join(
    summary_v2.scalar_pb(name, value).SerializeToString()
    for name, value in record.items()
    if name != 'step'
  )
  tf.summary.experimental.write_raw_pb(content, record['step'])


def _write_state(trainer: Trainer, rate: float) -> None:
  """Writes a sample, update ratios, histograms and attention maps."""
  step = trainer.step
  tf.summary.text('sample', f'```\n{trainer.continuation()}\n```', step)
  for name, ratio in update_ratios(trainer, rate).items():
    tf.summary.scalar(f'update_ratio/{name}', ratio, step)
  model, config = trainer.model, trainer.config.model
  for name, leaf in named_leaves(model.params).items():
    tf.summary.histogram(name, leaf, step)
  n_tokens = min(_MOST_TOKENS, config.context_length)
  found = inspect(trainer.data.first_val_tokens(n_tokens), model.params, config)
  for i, heads in enumerate(found.attention):
    # Larger weights are darker; the square root makes small ones visible.
    images = 1 - np.sqrt(heads)[..., None]
    tf.summary.image(f'attention/{i}', images, step, max_outputs=len(heads))


def update_ratios(trainer: Trainer, rate: float) -> dict[str, float]:
  """Returns the norm of each matrix's last update over the matrix's norm.

  About 1e-3 is healthy; at far less, a matrix hardly learns; far more destroys
  what it has learned.
  """
  state, recipe = trainer.state, trainer.recipe
  mus, nus = (named_leaves(tree) for tree in state.moments)
  rules = named_leaves(update_rules(state.params, recipe))
  ratios = {}
  for name, param in named_leaves(state.params).items():
    if len(param.shape) > 1:
      moments = Moments(mus[name], nus[name])
      moved = rules[name](param, moments, state.step - 1, recipe)
      ratios[name] = rate * float(tf.norm(moved) / tf.norm(param))
  return ratios
