"""A work directory: everything one run is made of and leaves behind.

config.json       model, data and training configuration
tokenizer.json    the vocabulary
metrics.jsonl     one JSON object for every step
skipped.json      batches that --spike_guard left out, where it did
samples.txt       text written during training
loss.png, .svg    the curves, where matplotlib is installed
checkpoints/      step-00000250/, ...: the newest and the best
lock              there while a trainer is at work, with its process id
"""

import dataclasses
import json
from pathlib import Path
from typing import Any, NamedTuple

import tensorflow as tf

from minigpt import tokenizers
from minigpt.checkpoints import checkpoint, huggingface
from minigpt.config import DataConfig, GPTConfig, TrainConfig
from minigpt.data.windows import Fingerprint
from minigpt.errors import InputError, UsageError
from minigpt.model import lora, params
from minigpt.model.params import Params
from minigpt.model.transformer import GPT
from minigpt.runtime import atomic_io
from minigpt.tokenizers import Tokenizer

# What may change between two sittings of one run without making it another.
FREE = {
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

# What may differ between a run and the model that it starts from.
OWN = {'drop_rate', 'context_length', 'remat'}


class Run(NamedTuple):
  """The full configuration of a run."""

  model: GPTConfig
  data: DataConfig
  train: TrainConfig


class Trained(NamedTuple):
  """A model read back from a work directory."""

  run: Run
  model: GPT
  tokenizer: Tokenizer
  checkpoint: checkpoint.Checkpoint


def checkpoints(workdir: Path) -> Path:
  return workdir / 'checkpoints'


def holds_run(workdir: Path) -> bool:
  return (workdir / 'config.json').is_file()


def sweep(workdir: Path) -> None:
  """Deletes what killed writers left behind; only its trainer may do so."""
  atomic_io.sweep(workdir)
  atomic_io.sweep(checkpoints(workdir))


def create(
  workdir: Path,
  run: Run,
  tokenizer: Tokenizer,
  fingerprint: Fingerprint | None = None,
) -> None:
  """Writes the configuration; config.json comes last and makes it a run."""
  try:
    workdir.mkdir(parents=True, exist_ok=True)
  except OSError as error:
    raise InputError(
      f'{workdir} cannot be created ({error.strerror}); choose another '
      '--workdir'
    ) from None
  tokenizers.save(tokenizer, workdir / 'tokenizer.json')
  save_config(workdir, run, fingerprint)


def write(
  path: Path, config: GPTConfig, weights: Params, tokenizer: Tokenizer
) -> None:
  """Writes weights that were trained elsewhere as a run of no steps.

  Raises:
    InputError: `path` exists, or cannot be written; nothing is left behind.
  """
  data = DataConfig(dataset='', tokenizer=tokenizer.name)
  variables = tf.nest.map_structure(tf.Variable, weights)
  with checkpoint.new_directory(path) as scratch:
    create(scratch, Run(config, data, TrainConfig()), tokenizer)
    checkpoint.save(
      checkpoints(scratch),
      0,
      tf.train.Checkpoint(params=variables),
      {'val_loss': None},
    )


def save_config(
  workdir: Path, run: Run, fingerprint: Fingerprint | None = None
) -> None:
  """Writes config.json; the fingerprint is that of the run's tokens."""
  fields = {name: dataclasses.asdict(c) for name, c in run._asdict().items()}
  if fingerprint:
    fields['fingerprint'] = fingerprint._asdict()
  atomic_io.write_text(
    workdir / 'config.json', json.dumps(fields, indent=2) + '\n'
  )


def load_config(workdir: Path) -> Run:
  """Raises InputError where there is no run or its config is not one."""
  path = workdir / 'config.json'
  fields = _config_fields(workdir)
  try:
    return Run(
      GPTConfig(**fields['model']),
      DataConfig(**fields['data']),
      TrainConfig(**fields['train']),
    )
  except (KeyError, TypeError, ValueError) as error:
    raise InputError(f'{path} is not a configuration: {error}') from None


def _config_fields(workdir: Path) -> dict[str, Any]:
  if not holds_run(workdir):
    raise InputError(
      f'{workdir} holds no run (no config.json); train one with train.py'
    )
  return atomic_io.read_json(workdir / 'config.json')


def check_same_data(workdir: Path, found: Fingerprint) -> None:
  """Raises InputError where the text is not the one that was trained on."""
  saved = _config_fields(workdir).get('fingerprint')
  if saved is not None and saved != found._asdict():
    raise InputError(
      f'the text has changed since {workdir} was begun: its {found.n_tokens:,} '
      f'tokens have checksum {found.crc32:08x}, config.json says {saved}; '
      'bring the text back, or choose another --workdir'
    )


def values(run: Run) -> dict[str, Any]:
  """Every field of the run's configs by its name."""
  return {k: v for c in run for k, v in dataclasses.asdict(c).items()}


def check_can_continue(workdir: Path, saved: Run) -> None:
  """Raises UsageError where the run is one of `write`, which has no data."""
  if not saved.data.dataset:
    raise UsageError(
      f'{workdir} holds a converted model, not a run to continue: give '
      f'--init_from={workdir} and another --workdir'
    )


def check_same_run(workdir: Path, saved: Run, asked: dict[str, Any]) -> None:
  """Raises UsageError where what is asked for contradicts the saved run."""
  known = values(saved)
  for name, value in asked.items():
    if name not in FREE and known[name] != value:
      raise UsageError(
        f'--{name}={value} contradicts {workdir}/config.json, which says '
        f'{known[name]}: drop it to continue that run, or choose another '
        '--workdir'
      )


def load_weights(path: Path) -> tuple[GPTConfig, Params]:
  """Reads the model of a run, or of Hugging Face's or OpenAI's directory."""
  if huggingface.is_pretrained(path):
    return huggingface.read(path)
  trained = load_trained(path)
  return trained.run.model, trained.model.params


def load_start(
  run: Run,
  wanted: int | None = None,
  read: tuple[GPTConfig, Params] | None = None,
) -> tuple[Params, int]:
  """Reads what a run starts from; a shorter context cuts wpe.

  Args:
    wanted: checksum of the weights that adapters were trained beside.
    read: the model, where it has been read already.

  Returns:
    The weights and their checksum.

  Raises:
    InputError: they are not there, or no longer the ones of this run.
  """
  path, config = run.train.init_from, run.model
  found, weights = read or load_weights(Path(path))
  own = {name: getattr(config, name) for name in OWN}
  fits = (
    dataclasses.replace(found, **own) == config
    and config.context_length <= found.context_length
  )
  if fits:
    weights = weights._replace(wpe=weights.wpe[: config.context_length])
  checksum = params.checksum(weights)
  if not fits or wanted not in (None, checksum):
    raise InputError(
      f'{path} is no longer the model that this run started from'
    )
  return weights, checksum


def assign(variables: Params, weights: Params) -> None:
  tf.nest.map_structure(lambda v, w: v.assign(w), variables, weights)


def _load_merged(run: Run, found: checkpoint.Checkpoint, model: GPT) -> None:
  """Sets the model to what the run started from and its adapters became."""
  recipe = run.train
  adapters = lora.init_adapters(run.model, recipe.lora_rank)
  checkpoint.restore(found, tf.train.Checkpoint(params=adapters), partial=True)
  start, _ = load_start(run, found.info.get('start'))
  assign(model.params, lora.merge(start, adapters, lora.scale(recipe)))


def _check_size(workdir: Path, run: Run, found: checkpoint.Checkpoint) -> None:
  """A config may claim any size; the checkpoint is what there is."""
  c, files_ = run.model, found.path.glob('state.data-*')
  held = sum(file.stat().st_size for file in files_)
  least = 4 * c.emb_dim * (c.vocab_size + 4 * c.n_layers * c.emb_dim)
  if least > held and not run.train.lora_rank:
    raise InputError(
      f'{workdir}/config.json describes a model larger than {found.path}'
    )


def load_trained(workdir: Path) -> Trained:
  """Reads the best checkpoint of a run; adapters are merged into the model.

  Raises:
    InputError: there is no run or checkpoint, or it is damaged.
  """
  run = load_config(workdir)
  found = checkpoint.best(checkpoint.list_checkpoints(checkpoints(workdir)))
  if found is None:
    raise InputError(
      f'{workdir} holds no checkpoint yet; train it with train.py '
      f'--workdir={workdir}'
    )
  _check_size(workdir, run, found)
  model = GPT(run.model)
  if run.train.lora_rank:
    _load_merged(run, found, model)
  else:
    checkpoint.restore(
      found, tf.train.Checkpoint(params=model.params), partial=True
    )
  tokenizer = tokenizers.load(workdir / 'tokenizer.json')
  return Trained(run, model, tokenizer, found)
