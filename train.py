"""Trains a GPT on text.

  python train.py --preset=shakespeare-char --dataset=stdlib --workdir=runs/s

A preset carries the model and its recipe; any flag overrides it. The same
command again continues the run from its newest checkpoint.
"""

import time
from pathlib import Path

from absl import flags

from minigpt import lock, program, tokenizers, workdir
from minigpt.config import (
  DataConfig,
  GPTConfig,
  TrainConfig,
  preset_values,
  settle,
)
from minigpt.data import given_tokenizer
from minigpt.errors import UsageError
from minigpt.fit import Fit, Prepared, describe, finish, fit, prepare
from minigpt.params import specs

_WORKDIR = flags.DEFINE_string('workdir', None, 'where the run lives')
_PRESET = flags.DEFINE_string('preset', 'shakespeare-char', 'starting point')
_RESUME = flags.DEFINE_bool('resume', True, 'continue the run in --workdir')
_DRY_RUN = flags.DEFINE_bool('dry_run', False, 'describe the run and stop')
program.define_flags(GPTConfig, DataConfig, TrainConfig)


def main() -> int:
  started = time.monotonic()
  given = {}
  for config in (GPTConfig, DataConfig, TrainConfig):
    given |= program.given(config)
  given = given_tokenizer(given)
  if _DRY_RUN.value:
    prepared = prepare(settle(preset_values(_PRESET.value, given)))
    print(describe(prepared, specs(prepared.run.model)))
    return 0
  if _WORKDIR.value is None:
    raise UsageError('--workdir is missing; say where the run shall live')
  path = Path(_WORKDIR.value)
  with lock.held(path, 'workdir'):
    return _train(path, given, started)


def _train(path: Path, given: dict, started: float) -> int:
  """Trains to the end, or to a signal; returns the exit code."""
  workdir.sweep(path)
  resumes = workdir.holds_run(path)
  prepared = (_continued if resumes else _new)(path, given)
  print(describe(prepared, specs(prepared.run.model)))
  run = Fit(path, prepared)
  for damage in run.restore():
    print(f'set aside as {damage.path.name}: {damage.reason}')
  if resumes:
    print(f'continuing {path} after step {run.step}')
  stopped_by = fit(run)
  if stopped_by:
    print(f'step {run.step} is saved; the same command continues from there')
    return 128 + stopped_by
  print(finish(run, time.monotonic() - started))
  return 0


def _new(path: Path, given: dict) -> Prepared:
  prepared = prepare(settle(preset_values(_PRESET.value, given)))
  workdir.create(path, prepared.run, prepared.tokenizer, prepared.fingerprint)
  return prepared


def _continued(path: Path, given: dict) -> Prepared:
  if not _RESUME.value:
    raise UsageError(f'{path} holds a run; choose another --workdir')
  if flags.FLAGS['preset'].present:
    given = preset_values(_PRESET.value, given)
  saved = workdir.load_config(path)
  workdir.check_same_run(path, saved, given)
  settings = settle({**workdir.values(saved), **given})
  tokenizer = tokenizers.load(path / 'tokenizer.json')
  prepared = prepare(settings, tokenizer)
  workdir.check_same_data(path, prepared.fingerprint)
  workdir.save_config(path, prepared.run, prepared.fingerprint)
  return prepared


if __name__ == '__main__':
  program.run(main)
