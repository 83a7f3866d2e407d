"""Writes what TensorBoard shows of a run (the `viz` extra).

A `Writer` is an observer of a `Trainer`: it is called after every call of the
train step, and writes scalars for each; at evaluations also a sample,
attention maps and histograms of the parameters; and once the model's graph.
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

_MOST_TOKENS = 64  # In an attention map; more would not be seen.


def open_writer(path: str | Path, profile_steps: str = '') -> Observer:
  """Returns an observer of a trainer that writes events to `path`.

  Without tensorboard it prints so, and returns one that does nothing.

  Args:
    path: a folder, for `tensorboard --logdir`.
    profile_steps: 'A:B' also profiles the calls that make steps A to B.

  Raises:
    UsageError: `profile_steps` is no such range.
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
    self._writer: Any = None  # Made when there is something to write.
    self._step = 0  # The last one written.
    self._to_profile = profile_steps
    self._profiling = False

  def __call__(self, trainer: Trainer, records: list[Record]) -> None:
    """Writes the records of one call, and what an evaluation shows."""
    is_first = self._writer is None
    is_new = is_first and not any(Path(self._path).glob('*.tfevents.*'))
    if is_first or records[0]['step'] <= self._step:
      _purge(self._path, records[0]['step'])
      self._writer = tf.summary.create_file_writer(self._path)
    self._step = records[-1]['step']
    with self._writer.as_default():
      if is_first:
        _write_settings(trainer)
      if is_new:  # TensorBoard warns of a second graph.
        tf.summary.graph(model_graph(trainer))
      for record in records:
        _write_scalars(record)
      if 'val_loss' in records[-1]:
        _write_state(trainer, records[-1]['learning_rate'])
    self._writer.flush()
    self._profile(trainer.step, trainer.recipe.steps)

  def _profile(self, step: int, last: int) -> None:
    """Starts or stops before the next call, which makes step + 1."""
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

  Files are read in the order of their names, which begin with the second they
  were made in: this one lies before those of the writers to come.
  """
  v1 = tf.compat.v1
  with tf.Graph().as_default():  # Or the class refuses to work.
    writer = v1.summary.FileWriter(path)
  writer.add_session_log(v1.SessionLog(status=v1.SessionLog.START), step)
  writer.close()


def _write_settings(trainer: Trainer) -> None:
  from tensorboard.plugins.hparams import api  # Optional.

  values = workdir.values(trainer.config).items()
  # TensorBoard knows numbers and strings.
  api.hparams(
    {n: ' '.join(v) if isinstance(v, tuple) else v for n, v in values}
  )


def model_graph(trainer: Trainer) -> tf.Graph:
  """Returns the forward pass as its definitions write it, in nested scopes."""
  config = trainer.config.model
  params = trainer.state.full_params(trainer.state.params)

  def forward(tokens):  # int [1, T] -> [1, T, V]
    with dispatch.name_scopes():
      return gpt(tokens, params, config)

  tokens = tf.TensorSpec([1, config.context_length], tf.int32, 'tokens')
  return tf.function(forward).get_concrete_function(tokens).graph


def _write_scalars(record: dict[str, Any]) -> None:
  """Writes all scalars in one operation, as they come with every step."""
  from tensorboard.plugins.scalar import summary_v2  # Optional.

  # Messages of Protocol Buffers one after another are one message.
  content = b''.join(
    summary_v2.scalar_pb(name, value).SerializeToString()
    for name, value in record.items()
    if name != 'step'
  )
  tf.summary.experimental.write_raw_pb(content, record['step'])


def _write_state(trainer: Trainer, rate: float) -> None:
  """Writes what is worth a look only now and then."""
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
    # Ink on paper: the larger the weight, the darker.
    images = 1 - np.sqrt(heads)[..., None]
    tf.summary.image(f'attention/{i}', images, step, max_outputs=len(heads))


def update_ratios(trainer: Trainer, rate: float) -> dict[str, float]:
  """Returns the norm of each matrix's last update over the matrix's norm.

  About 1e-3 is healthy; far less hardly learns, far more forgets.
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
