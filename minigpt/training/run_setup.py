"""Opens a run: a new one, one to continue, or one to join as a worker.

`open_run` is the entry point. The settings come from three places: a preset,
explicit values (overrides), and the config.json of a run that exists.
"""

import contextlib
import dataclasses
import functools
import math
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import tensorflow as tf

from minigpt import tokenizers
from minigpt.checkpoints import checkpoint, loading, workdir
from minigpt.checkpoints.loading import CHANGEABLE_AT_START, LoadedModel
from minigpt.checkpoints.workdir import RunConfig
from minigpt.config import (
  GPTConfig,
  Settings,
  TrainConfig,
  preset_values,
  resolve,
  resolve_exclusive,
)
from minigpt.data.sources import (
  UnfitTextError,
  check_vocabulary,
  resolve_tokenizer,
)
from minigpt.data.training_data import (
  CheckText,
  TrainingData,
  any_text,
  read_training_data,
)
from minigpt.errors import InputError, UsageError
from minigpt.model.params import specs
from minigpt.runtime import lock
from minigpt.runtime.atomic_io import delete_folder
from minigpt.tokenizers import Tokenizer
from minigpt.training import memory_estimate, metrics
from minigpt.training.metrics import Say
from minigpt.training.single_worker import SingleWorker
from minigpt.training.summary import summary
from minigpt.training.trainer import Trainer, save_interval


class RunSetup(NamedTuple):
  """A run's complete configuration and its data."""

  config: RunConfig
  data: TrainingData
  start: LoadedModel | None = None  # the model of `init_from`, if it is loaded


def open_run(
  path: str | Path,
  overrides: Mapping[str, Any] | None = None,
  *,
  preset: str | None = None,
  resume: bool = True,
  workers: SingleWorker | None = None,
  say: Say = metrics.say,
) -> Trainer:
  """Begins a run in a work directory, or continues from its newest checkpoint.

  The directory stays locked until the trainer exits: use it in a `with`.

  Args:
    overrides: explicit values by the configs' field names; they replace the
      preset's, and must not contradict a run that exists.
    preset: the preset of a new run; None means 'finetune' if `init_from` is
      given, and 'shakespeare-char' otherwise.
    resume: False refuses a directory that already holds a run.
    workers: the workers of the run; None: this process alone.

  Raises:
    UsageError: the settings make no sense, or contradict the existing run.
    InputError: the text, a model or the directory cannot be used.
  """
  path, workers = Path(path), workers or SingleWorker()
  overrides = resolve_overrides(overrides or {})
  with contextlib.ExitStack() as resources:
    held = _claim(path, workers, resources)
    resumes = workdir.holds_run(path)
    setup = _set_up(path, overrides, preset, resume, workers)
    say(describe(setup))
    trainer = Trainer(path, setup.config, setup.data, workers, say)
    for damage in trainer.restore(setup.start):
      say(f'set aside as {damage.path.name}: {damage.reason}')
    if resumes:
      say(f'continuing {path} after step {trainer.step}')
    trainer.hold(resources.pop_all(), held)
  return trainer


def _set_up(
  path: Path,
  overrides: dict[str, Any],
  preset: str | None,
  resume: bool,
  workers: SingleWorker,
) -> RunSetup:
  """Begins or continues the run as the chief, or joins it as a worker."""
  if workers.is_chief:
    workdir.sweep(path)
    opened = _continue_run if workdir.holds_run(path) else _begin_run
    setup = opened(path, overrides, preset, resume, workers)
  workers.barrier()  # The other workers read files that the chief writes.
  return setup if workers.is_chief else _join_run(path)


def _claim(
  path: Path, workers: SingleWorker, resources: contextlib.ExitStack
) -> lock.Lock | None:
  """Locks the directory as the chief; silences the output of other workers."""
  held = None
  if workers.is_chief:
    held = resources.enter_context(lock.held(path, 'workdir'))
  else:
    silence = resources.enter_context(open(os.devnull, 'w'))  # noqa: SIM115
    resources.enter_context(contextlib.redirect_stdout(silence))
  resources.enter_context(
    workers.lost_worker_is_an_error(workdir.checkpoints(path))
  )
  return held


def resolve_overrides(overrides: Mapping[str, Any]) -> dict[str, Any]:
  """Adds the tokenizer of a token directory; makes `init_from` absolute.

  Raises:
    UsageError: an explicit tokenizer differs from the directory's.
    InputError: the directory's tokenizer cannot be read.
  """
  resolved = resolve_tokenizer(overrides)
  if resolved.get('init_from'):
    resolved['init_from'] = os.path.abspath(resolved['init_from'])
  return resolved


def new_setup(
  overrides: dict[str, Any], preset: str | None, cache: Path | None = None
) -> RunSetup:
  """Completes the configuration of a new run; writes only the token cache.

  Args:
    overrides: as `resolve_overrides` returns them.
    preset: None stands for the default.
    cache: the folder for the tokens of a large text.
  """
  if not overrides.get('init_from'):
    values = preset_values(preset or 'shakespeare-char', overrides)
    return prepare(resolve(values), cache=cache)
  start = loading.load(overrides['init_from'])
  check_vocabulary(overrides.get('dataset', ''), start.tokenizer)
  values = preset_values(preset or 'finetune', overrides)
  values |= start_values(start, overrides)
  setup = prepare(resolve(values), start.tokenizer, cache=cache)
  return setup._replace(start=start)


def _begin_run(
  path: Path,
  overrides: dict[str, Any],
  preset: str | None,
  resume: bool,
  workers: SingleWorker,
) -> RunSetup:
  with _no_tokens_without_a_run(path):
    setup = new_setup(overrides, preset, workdir.tokens(path))
    workers.check_batch_size(setup.config.train)
    data = setup.data
    workdir.create(path, setup.config, data.tokenizer, data.fingerprint)
  return setup


@contextlib.contextmanager
def _no_tokens_without_a_run(path: Path) -> Iterator[None]:
  """Deletes the tokens that were made for a run which is then refused."""
  tokens = workdir.tokens(path)
  was_there = tokens.exists()
  try:
    yield
  except BaseException:
    if not was_there and tokens.exists():
      with contextlib.suppress(OSError):
        delete_folder(tokens)
    raise


def _continue_run(
  path: Path,
  overrides: dict[str, Any],
  preset: str | None,
  resume: bool,
  workers: SingleWorker,
) -> RunSetup:
  if not resume:
    raise UsageError(f'{path} holds a run; choose another --workdir')
  overrides = resolve_exclusive(overrides)
  if preset:
    overrides = preset_values(preset, overrides)
  saved = workdir.load_config(path)
  workdir.check_can_continue(path, saved)
  workdir.check_same_run(path, saved, overrides)
  interval = save_interval(saved.train) or saved.train.steps
  last_step = metrics.last_step(path / 'metrics.jsonl')
  workdir.check_has_checkpoints(path, last_step, interval)
  workdir.create_folders(path)
  setup = _read_run(path, {**workdir.values(saved), **overrides})
  if setup.config.train.init_from != saved.train.init_from:
    setup = _with_moved_start(path, setup)
  workers.check_batch_size(setup.config.train)
  workdir.save_config(path, setup.config, setup.data.fingerprint)
  return setup


def _with_moved_start(path: Path, setup: RunSetup) -> RunSetup:
  """Checks that the model of a new `init_from` is the one of the run.

  Only a run that trains adapters still needs this model.
  """
  if not setup.config.train.lora_rank:
    return setup
  start = loading.load(setup.config.train.init_from)
  newest = checkpoint.list_checkpoints(workdir.checkpoints(path))[-1]
  loading.load_start(setup.config, newest.info.get('start'), start)
  return setup._replace(start=start)


def _join_run(path: Path) -> RunSetup:
  """Reads the run that the chief has just written."""
  if not workdir.holds_run(path):
    raise InputError(
      f'{path} is empty for this worker: --workdir must name a directory that '
      'all workers share'
    )
  return _read_run(path, workdir.values(workdir.load_config(path)))


def _read_run(path: Path, values: dict[str, Any]) -> RunSetup:
  """Reads a run's text, and checks that it has not changed."""
  tokenizer = tokenizers.load(path / 'tokenizer.json')
  try:
    return prepare(
      resolve(values),
      tokenizer,
      functools.partial(workdir.check_same_data, path),
      workdir.tokens(path),
    )
  except UnfitTextError as error:
    # The vocabulary fitted the original text, so the text has changed.
    raise workdir.changed_text(path, str(error)) from None


def start_values(
  start: LoadedModel, overrides: Mapping[str, Any]
) -> dict[str, Any]:
  """Returns the model and tokenizer settings of a run with `init_from`.

  Args:
    start: the model of `init_from`.
    overrides: explicit values.

  Raises:
    UsageError: an override contradicts the model.
  """
  values = dataclasses.asdict(start.config)
  for name in values.keys() & overrides.keys():
    value, known = overrides[name], values[name]
    longer = name == 'context_length' and value > known
    if longer or (name not in CHANGEABLE_AT_START and value != known):
      raise UsageError(
        f'--{name}={value}: the model of --init_from has {known}; leave the '
        'flag out'
      )
    values[name] = value
  name = start.tokenizer.name
  if overrides.get('tokenizer', name) != name:
    raise UsageError(
      f'--tokenizer={overrides["tokenizer"]}: the model of --init_from comes '
      f'with {name}; leave the flag out'
    )
  for flag in ('special', 'unknown_character'):
    if overrides.get(flag):
      raise UsageError(
        f'--{flag}: the vocabulary is that of the model of --init_from; leave '
        'the flag out'
      )
  return values | {'tokenizer': name}


def prepare(
  settings: Settings,
  tokenizer: Tokenizer | None = None,
  check: CheckText = any_text,
  cache: Path | None = None,
) -> RunSetup:
  """Reads the text, and resolves what depends on it: vocabulary and steps.

  Args:
    settings: of the run.
    tokenizer: of the run to continue or the model to start from, or None.
    check: checks the text, before it is used.
    cache: the folder for the tokens of a large text.

  Raises:
    UsageError: settings contradict each other, or the training state does not
      fit into the machine's memory.
    InputError: the text cannot be used.
  """
  context_length = GPTConfig(**settings.model).context_length
  if settings.train.eval_stride > context_length:
    raise UsageError(
      f'eval_stride={settings.train.eval_stride}: windows of {context_length} '
      'tokens would leave text out; lower it'
    )
  data = read_training_data(
    settings.data,
    context_length,
    tokenizer,
    check,
    settings.model.get('vocab_size'),
    cache,
  )
  vocabulary = {'vocab_size': data.tokenizer.vocab_size}
  model = GPTConfig(**{**vocabulary, **settings.model})
  loading.check_vocab_size('the run', model, data.tokenizer)
  recipe = _with_steps(settings.train, data.train.n_examples)
  config = RunConfig(model, settings.data, recipe)
  _memory_line(config)  # Raises if memory is short, before anything is written.
  return RunSetup(config, data)


def _with_steps(recipe: TrainConfig, n_examples: int) -> TrainConfig:
  """Converts a length in epochs to steps."""
  if not recipe.epochs:
    return recipe
  per_step = recipe.batch_size * recipe.grad_accum
  steps = math.ceil(recipe.epochs * n_examples / per_step)
  return dataclasses.replace(recipe, steps=steps)


def describe(setup: RunSetup) -> str:
  """Describes the model, the data and the length of a run, in a few lines."""
  config, data = setup.config, setup.data
  model, recipe = config.model, config.train
  return (
    f'{summary(specs(model), model)}\n{_adapter_line(config)}'
    f'{data.train.n_tokens:,} training tokens in {data.train.n_examples:,} '
    f'windows, {data.n_val_tokens:,} validation tokens, '
    f'vocabulary {model.vocab_size:,} ({data.tokenizer.name})\n'
    f'{recipe.steps:,} steps of {_batch(recipe)} windows of '
    f'{model.context_length} tokens in {recipe.compute_dtype}'
    f'{_memory_line(config)}'
  )


def _batch(recipe: TrainConfig) -> str:
  """Formats the number of windows in a step."""
  n, n_parts = recipe.batch_size, recipe.grad_accum
  return f'{n:,}' if n_parts == 1 else f'{n_parts:,} x {n:,}'


def _adapter_line(config: RunConfig) -> str:
  rank = config.train.lora_rank
  if not rank:
    return ''
  n = sum(
    rank * sum(layer.w.shape)
    for block in specs(config.model).blocks
    for layer in (*block.attn, *block.mlp)
  )
  return f'{"adapters, all that trains":<20} rank {rank:<13} {n:>13,}\n'


def _memory_line(config: RunConfig) -> str:
  if tf.config.list_physical_devices('GPU'):
    return ''  # The GPU's memory is the limit, and TensorFlow manages it.
  return '\n' + memory_estimate.check(
    config.model, config.train, memory_estimate.available()
  )
