"""A work directory: everything one run is made of and leaves behind.

config.json       model, data and training configuration
tokenizer.json    the vocabulary
metrics.jsonl     one JSON object for every step
skipped.json      batches that --spike_guard left out, where it did
samples.txt       text generated during training
loss.png, .svg    the curves, where matplotlib is installed
checkpoints/      step-00000250/, ...: the newest and the best
tokens/           those of a large text, made again where they are missing
lock              there while a trainer is at work, with its process id
"""

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import tensorflow as tf

from minigpt import tokenizers
from minigpt.checkpoints import checkpoint
from minigpt.config import DataConfig, GPTConfig, TrainConfig
from minigpt.config.validation import from_json
from minigpt.data.windows import Fingerprint
from minigpt.errors import InputError, UsageError
from minigpt.model.params import Params
from minigpt.runtime import atomic_io
from minigpt.runtime.json_io import read_json
from minigpt.tokenizers import Tokenizer

# What may change when a run is continued, without making it another run.
CHANGEABLE = {
  # It may have moved: that it is the same is proven by checksums.
  'dataset',
  'init_from',
  'steps',
  'epochs',
  'steps_per_call',
  'eval_every',
  'eval_batches',
  'eval_stride',
  'sample_every',
  'checkpoint_every',
  'keep_checkpoints',
  'patience',
  'spike_guard',
  'remat',
}


class RunConfig(NamedTuple):
  """The full configuration of a run."""

  model: GPTConfig
  data: DataConfig
  train: TrainConfig


def checkpoints(workdir: str | Path) -> Path:
  """Returns the folder of a run's checkpoints."""
  return Path(workdir) / 'checkpoints'


def tokens(workdir: str | Path) -> Path:
  """Returns the folder of the tokens of a large text."""
  return Path(workdir) / 'tokens'


def holds_run(workdir: str | Path) -> bool:
  """Tells whether a run was begun there."""
  return (Path(workdir) / 'config.json').is_file()


def sweep(workdir: str | Path) -> None:
  """Deletes what killed writers left behind; only its trainer may do so."""
  atomic_io.sweep(Path(workdir))
  atomic_io.sweep(checkpoints(workdir))


def create(
  workdir: str | Path,
  run: RunConfig,
  tokenizer: Tokenizer,
  fingerprint: Fingerprint | None = None,
) -> None:
  """Writes the configuration; config.json comes last and makes it a run.

  Raises:
    InputError: the folder cannot be written.
  """
  workdir = Path(workdir)
  create_folders(workdir)
  tokenizers.save(tokenizer, workdir / 'tokenizer.json')
  save_config(workdir, run, fingerprint)


def create_folders(workdir: str | Path) -> None:
  """Creates the directory and its folder of checkpoints, or InputError."""
  try:
    checkpoints(workdir).mkdir(parents=True, exist_ok=True)
  except OSError as error:
    raise InputError(
      f'{workdir} cannot be created ({error.strerror}); choose another '
      '--workdir'
    ) from None


def write(
  path: str | Path, config: GPTConfig, weights: Params, tokenizer: Tokenizer
) -> None:
  """Writes weights that were trained elsewhere as a run of no steps.

  Raises:
    InputError: `path` exists, or cannot be written; nothing is left behind.
  """
  # A run without a data set: `check_can_continue` knows it by that.
  data = DataConfig(dataset='', tokenizer=tokenizer.name)
  variables = tf.nest.map_structure(tf.Variable, weights)
  with atomic_io.new_folder(path, (tf.errors.OpError,)) as scratch:
    create(scratch, RunConfig(config, data, TrainConfig()), tokenizer)
    checkpoint.save(
      checkpoints(scratch),
      0,
      tf.train.Checkpoint(params=variables),
      {'val_loss': None},
    )


def save_config(
  workdir: str | Path, run: RunConfig, fingerprint: Fingerprint | None = None
) -> None:
  """Writes config.json, with the fingerprint of the run's tokens."""
  fields = {name: dataclasses.asdict(c) for name, c in run._asdict().items()}
  if fingerprint:
    fields['fingerprint'] = fingerprint._asdict()
  atomic_io.write_text(
    Path(workdir) / 'config.json', json.dumps(fields, indent=2) + '\n'
  )


def load_config(workdir: str | Path) -> RunConfig:
  """Reads config.json.

  Raises:
    InputError: there is no run, or its config.json is not a configuration.
  """
  fields = _config_fields(workdir)
  try:
    return RunConfig(
      from_json(GPTConfig, fields['model']),
      # A run that does not say so is older than the choice.
      from_json(DataConfig, {'raw_text': True, **fields['data']}),
      from_json(TrainConfig, fields['train']),
    )
  except (KeyError, ValueError) as error:
    raise InputError(
      f'{Path(workdir) / "config.json"} is not a configuration: {error}'
    ) from None


def _config_fields(workdir: str | Path) -> dict[str, Any]:
  if not holds_run(workdir):
    raise InputError(
      f'{workdir} holds no run (no config.json); train one with train.py'
    )
  return read_json(Path(workdir) / 'config.json')


def values(run: RunConfig) -> dict[str, Any]:
  """Returns every field of the run's configs by its name."""
  return {k: v for c in run for k, v in dataclasses.asdict(c).items()}


def check_same_data(workdir: str | Path, found: Fingerprint) -> None:
  """Raises InputError where the text is not the one that was trained on."""
  saved = _config_fields(workdir).get('fingerprint')
  if saved is not None and saved != found._asdict():
    raise changed_text(
      workdir,
      f'it has {found.n_tokens:,} tokens now, with checksum {found.crc32:08x}',
    )


def changed_text(workdir: str | Path, now: str) -> InputError:
  """Makes the error of a run whose text is not what it was begun with.

  Args:
    workdir: the run's.
    now: what the text is now.
  """
  saved = _config_fields(workdir).get('fingerprint')
  before = f'; config.json says {saved}'
  if isinstance(saved, dict):
    n, crc = saved.get('n_tokens'), saved.get('crc32')
    if type(n) is int and type(crc) is int:
      before = f'; it had {n:,} tokens with checksum {crc:08x}'
  return InputError(
    f'the text has changed since {workdir} was begun{before}; {now}; bring the '
    'text back, or choose another --workdir'
  )


def check_has_checkpoints(
  workdir: str | Path, last_step: int, interval: int
) -> None:
  """Refuses to begin a run again whose checkpoints are gone.

  Args:
    workdir: the run's.
    last_step: the last one in metrics.jsonl; 0: there is none.
    interval: steps between checkpoints.

  Raises:
    InputError: there must have been a checkpoint by that step.
  """
  folder = checkpoints(workdir)
  whole, damages = checkpoint.scan(folder)
  if whole or damages:
    return
  # A killed run may lack the checkpoint that was being written at the end of
  # an interval, and no more: the next save waits for it. The folder itself is
  # as old as the run, or (by earlier versions) as the first checkpoint.
  most = 2 * interval if folder.is_dir() else interval
  if last_step > most:
    raise InputError(
      f'{folder} holds no checkpoint, but metrics.jsonl reaches step '
      f'{last_step}: bring the checkpoints back from a copy, or choose another '
      '--workdir'
    )


def check_can_continue(workdir: str | Path, saved: RunConfig) -> None:
  """Raises UsageError where `write` made the run, which has no data."""
  if not saved.data.dataset:
    raise UsageError(
      f'{workdir} holds a converted model, not a run to continue: give '
      f'--init_from={workdir} and another --workdir'
    )


def check_same_run(
  workdir: str | Path, saved: RunConfig, overrides: Mapping[str, Any]
) -> None:
  """Raises UsageError where an override contradicts the saved run."""
  known = values(saved)
  for name, value in overrides.items():
    # What agrees with the saved run may always be repeated.
    if known[name] == value:
      continue
    if name not in CHANGEABLE or not _may_move(workdir, saved, name, value):
      raise UsageError(
        f'--{name}={value} contradicts {workdir}/config.json, which says '
        f'{known[name]}: drop it to continue that run, or choose another '
        '--workdir'
      )


def _may_move(
  workdir: str | Path, saved: RunConfig, name: str, value: Any
) -> bool:
  """Tells whether a checksum will prove that what has moved is the same."""
  if name == 'dataset':
    return _config_fields(workdir).get('fingerprint') is not None
  if name == 'init_from':
    # The checkpoint of adapters has the checksum of the frozen weights;
    # one of all weights makes the start superfluous.
    both = bool(value) and bool(saved.train.init_from)
    return both and bool(checkpoint.list_checkpoints(checkpoints(workdir)))
  return True
