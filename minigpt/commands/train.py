r"""Trains a GPT on text.

  python -m minigpt train --preset=shakespeare-char --dataset=stdlib \
    --workdir=runs/s

  python -m minigpt train --init_from=downloads/gpt2 --dataset=a.txt \
    --workdir=runs/a

A preset carries the model and its recipe; any flag overrides it. --init_from
takes the model, its weights and its tokenizer from elsewhere. The same command
again continues the run from its newest checkpoint.

With TF_CONFIG set, it is one of several workers (see `minigpt launch`).
"""

import contextlib
import os
import time
from pathlib import Path

from minigpt import tokenizers
from minigpt.analysis import tensorboard
from minigpt.checkpoints import loading, workdir
from minigpt.checkpoints.loading import LoadedModel
from minigpt.commands.flags import train as flags
from minigpt.config import (
  DataConfig,
  GPTConfig,
  TrainConfig,
  preset_values,
  resolve,
)
from minigpt.data.sources import resolve_tokenizer
from minigpt.errors import InputError, UsageError
from minigpt.model.params import specs
from minigpt.runtime import app, lock
from minigpt.training import distribution, run_setup
from minigpt.training.distribution import Alone
from minigpt.training.trainer import (
  Fit,
  Observer,
  Prepared,
  describe,
  finish,
  fit,
  no_observer,
  prepare,
)


def main() -> int:
  started = time.monotonic()
  given = app.explicit_flags(flags.FLAGS, GPTConfig, DataConfig, TrainConfig)
  given = resolve_tokenizer(given)
  if given.get('init_from'):
    given['init_from'] = os.path.abspath(given['init_from'])
  if flags.DRY_RUN.value:
    prepared, _ = _prepared(given)
    print(describe(prepared, specs(prepared.run.model)))
    return 0
  if flags.WORKDIR.value is None:
    raise UsageError('--workdir is missing; say where the run shall live')
  path = Path(flags.WORKDIR.value)
  workers = distribution.connect()
  with contextlib.ExitStack() as stack:
    if workers.is_chief:
      stack.enter_context(lock.held(path, 'workdir'))
    else:
      silence = stack.enter_context(open(os.devnull, 'w'))
      stack.enter_context(contextlib.redirect_stdout(silence))
    stack.enter_context(workers.watched(workdir.checkpoints(path)))
    return _train(path, given, workers, started)


def _train(path: Path, given: dict, workers: Alone, started: float) -> int:
  """Trains to the end, or to a signal; returns the exit code."""
  observer, resumes, start = no_observer, True, None
  if workers.is_chief:
    workdir.sweep(path)
    observer, resumes = _observer(path), workdir.holds_run(path)
    opened = _continued if resumes else _new
    prepared, start = opened(path, given, workers)
  workers.agree(0)  # The others read what the chief has written.
  if not workers.is_chief:
    prepared = _joined(path)
  print(describe(prepared, specs(prepared.run.model)))
  run = Fit(path, prepared, workers)
  for damage in run.restore(start):
    print(f'set aside as {damage.path.name}: {damage.reason}')
  if resumes:
    print(f'continuing {path} after step {run.step}')
  stopped_by = fit(run, observer)
  if stopped_by:
    print(f'step {run.step} is saved; the same command continues from there')
    return 128 + stopped_by
  if workers.is_chief:
    print(finish(run, time.monotonic() - started))
  workers.agree(0)
  return 0


def _observer(path: Path) -> Observer:
  if flags.TENSORBOARD.value or flags.PROFILE_STEPS.value:
    return tensorboard.open_writer(
      path / 'tensorboard', flags.PROFILE_STEPS.value
    )
  return no_observer


def _prepared(given: dict) -> tuple[Prepared, LoadedModel | None]:
  if not given.get('init_from'):
    preset = flags.PRESET.value or 'shakespeare-char'
    return prepare(resolve(preset_values(preset, given))), None
  start = loading.load(Path(given['init_from']))
  values = preset_values(flags.PRESET.value or 'finetune', given)
  values |= run_setup.start_values(start, given)
  return prepare(resolve(values), start.tokenizer), start


def _joined(path: Path) -> Prepared:
  """The run of the chief, which has just written what it is."""
  if not workdir.holds_run(path):
    raise InputError(
      f'{path} is empty for this worker: --workdir must name a directory that '
      'all workers share'
    )
  return _read(path, workdir.values(workdir.load_config(path)))


def _read(path: Path, values: dict) -> Prepared:
  tokenizer = tokenizers.load(path / 'tokenizer.json')
  prepared = prepare(resolve(values), tokenizer)
  workdir.check_same_data(path, prepared.fingerprint)
  return prepared


def _new(
  path: Path, given: dict, workers: Alone
) -> tuple[Prepared, LoadedModel | None]:
  prepared, start = _prepared(given)
  workers.check(prepared.run.train)
  workdir.create(path, prepared.run, prepared.tokenizer, prepared.fingerprint)
  return prepared, start


def _continued(
  path: Path, given: dict, workers: Alone
) -> tuple[Prepared, None]:
  if not flags.RESUME.value:
    raise UsageError(f'{path} holds a run; choose another --workdir')
  if flags.FLAGS['preset'].present:
    given = preset_values(flags.PRESET.value, given)
  saved = workdir.load_config(path)
  workdir.check_can_continue(path, saved)
  workdir.check_same_run(path, saved, given)
  prepared = _read(path, {**workdir.values(saved), **given})
  workers.check(prepared.run.train)
  workdir.save_config(path, prepared.run, prepared.fingerprint)
  return prepared, None
