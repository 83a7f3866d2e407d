"""The work directory: all files of a run.

config.json       model, data and training configuration
tokenizer.json    the vocabulary
metrics.jsonl     one JSON object for every step
skipped.json      batches that --spike_guard skipped, if any
samples.txt       text generated during training
loss.png, .svg    the curves, if matplotlib is installed
checkpoints/      step-00000250/, ...: the newest and the best
tokens/           the tokens of a large text; rebuilt if missing
lock              exists while a trainer runs; holds its process id
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

# Settings that may change when a run is continued.
CHANGEABLE = {
  # These two may have moved; checksums prove that their content is the same.
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
  """Tells whether the directory holds a run."""
  return (Path(workdir) / 'config.json').is_file()


def sweep(workdir: str | Path) -> None:
  """Deletes leftovers of killed writers; only the run's trainer may call it."""
  atomic_io.sweep(Path(workdir))
  atomic_io.sweep(checkpoints(workdir))


def create(
  workdir: str | Path,
  run: RunConfig,
  tokenizer: Tokenizer,
  fingerprint: Fingerprint | None = None,
) -> None:
  """Writes a new run; config.json comes last, as it marks a complete one.

  Raises:
    InputError: the folder cannot be written.
  """
  workdir = Path(workdir)
  create_folders(workdir)
  tokenizers.save(tokenizer, workdir / 'tokenizer.json')
  save_config(workdir, run, fingerprint)


def create_folders(workdir: str | Path) -> None:
  """Creates the directory and its checkpoints folder, or raises InputError."""
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
  """Writes weights that were trained elsewhere as a run of 0 steps.

  Raises:
    InputError: `path` exists, or cannot be written; nothing is left behind.
  """
  # The empty data set tells `check_can_continue` that it is no trained run.
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
      # Runs without this field are older than it, and kept the raw text.
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
      f'{workdir} holds no run (no config.json); train one with minigpt train'
    )
  return read_json(Path(workdir) / 'config.json')


def values(run: RunConfig) -> dict[str, Any]:
  """Returns all fields of the run's configs by name."""
  return {k: v for c in run for k, v in dataclasses.asdict(c).items()}


def check_same_data(workdir: str | Path, found: Fingerprint) -> None:
  """Raises InputError if the text is not the one of the run."""
  saved = _config_fields(workdir).get('fingerprint')
  if saved is not None and saved != found._asdict():
    raise changed_text(
      workdir,
      f'it has {found.n_tokens:,} tokens now, with checksum {found.crc32:08x}',
    )


def changed_text(workdir: str | Path, now: str) -> InputError:
  """Returns the error for a run whose text has changed.

  Args:
    workdir: of the run.
    now: describes the text as it is now.
  """
  saved = _config_fields(workdir).get('fingerprint')
  before = f'; config.json says {saved}'
  if isinstance(saved, dict):
    n, crc = saved.get('n_tokens'), saved.get('crc32')
    if type(n) is int and type(crc) is int:
      before = f'; it had {n:,} tokens with checksum {crc:08x}'
  return InputError(
    f'the text has changed since {workdir} was begun{before}; {now}; restore '
    'the text, or choose another --workdir'
  )


def check_has_checkpoints(
  workdir: str | Path, last_step: int, interval: int
) -> None:
  """Refuses to restart a run from its first step if its checkpoints are lost.

  Args:
    workdir: of the run.
    last_step: the last step in metrics.jsonl, or 0.
    interval: steps between checkpoints.

  Raises:
    InputError: the run had reached a checkpoint, but there is none.
  """
  folder = checkpoints(workdir)
  whole, damages = checkpoint.scan(folder)
  if whole or damages:
    return
  # A run killed while its first checkpoint is written has none. It can have
  # made up to one more interval of steps, as the next save waits for the first.
  # Earlier versions created the folder with the first checkpoint.
  most = 2 * interval if folder.is_dir() else interval
  if last_step > most:
    raise InputError(
      f'{folder} holds no checkpoint, but metrics.jsonl reaches step '
      f'{last_step}: restore the checkpoints from a backup, or choose another '
      '--workdir'
    )


def check_can_continue(workdir: str | Path, saved: RunConfig) -> None:
  """Raises UsageError if `write` made the run, which then has no data."""
  if not saved.data.dataset:
    raise UsageError(
      f'{workdir} holds a converted model, not a run to continue: give '
      f'--init_from={workdir} and another --workdir'
    )


def check_same_run(
  workdir: str | Path, saved: RunConfig, overrides: Mapping[str, Any]
) -> None:
  """Raises UsageError if an override contradicts the saved run."""
  known = values(saved)
  for name, value in overrides.items():
    # A flag may repeat the saved value.
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
  """Tells whether a checksum can prove that moved content is the same."""
  if name == 'dataset':
    return _config_fields(workdir).get('fingerprint') is not None
  if name == 'init_from':
    # A checkpoint of adapters holds the checksum of the frozen weights; one of
    # all weights makes the model of `init_from` unnecessary.
    both = bool(value) and bool(saved.train.init_from)
    return both and bool(checkpoint.list_checkpoints(checkpoints(workdir)))
  return True
