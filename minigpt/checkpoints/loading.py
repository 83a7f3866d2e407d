"""Loads a model from the disk, in any of the supported formats.

Only this module decides what a path holds: a work directory, or GPT-2 as
published by Hugging Face or OpenAI.
"""

import dataclasses
import enum
import sys
from pathlib import Path
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from minigpt import tokenizers
from minigpt.checkpoints import checkpoint, huggingface, openai_gpt2, workdir
from minigpt.checkpoints.checkpoint import Checkpoint, DamagedError
from minigpt.checkpoints.workdir import RunConfig
from minigpt.config import GPTConfig
from minigpt.data.token_shards import checksum
from minigpt.errors import InputError
from minigpt.model import lora
from minigpt.model.params import Params
from minigpt.model.transformer import GPT
from minigpt.runtime.json_io import read_json
from minigpt.tokenizers import Tokenizer, hf_files

# Settings in which a run may differ from the model that it starts from.
CHANGEABLE_AT_START = {'drop_rate', 'context_length', 'remat'}


class Format(enum.Enum):
  """The format of a model on the disk."""

  WORKDIR = 'a work directory'
  HUGGINGFACE = "a GPT-2 in Hugging Face's format"
  OPENAI = "a GPT-2 in OpenAI's format"


def detect_format(path: str | Path) -> Format:
  """Returns the format of the model in a directory.

  Raises:
    InputError: the path is not a directory, or holds no model.
  """
  path = Path(path)
  if not path.is_dir():
    raise InputError(f'{path} is not a directory; give the one of the model')
  if (path / openai_gpt2.HPARAMS).is_file():
    return Format.OPENAI
  if not (path / 'config.json').is_file():
    raise InputError(
      f'{path} holds no model: neither a run of `minigpt train` nor a GPT-2 '
      'with its config.json or hparams.json'
    )
  # Both have a config.json; the one of a run has no model_type.
  if 'model_type' in read_json(path / 'config.json'):
    return Format.HUGGINGFACE
  return Format.WORKDIR


class Trained(NamedTuple):
  """A model loaded from a work directory."""

  run: RunConfig
  model: GPT
  tokenizer: Tokenizer
  checkpoint: Checkpoint

  @property
  def path(self) -> Path:
    """Returns the work directory."""
    return self.checkpoint.path.parents[1]


class LoadedModel(NamedTuple):
  """A model of any format."""

  config: GPTConfig
  weights: Params  # arrays or variables, float32
  tokenizer: Tokenizer
  trained: Trained | None = None  # the run, unless the format is another


def load(path: str | Path, tokenizer: Tokenizer | None = None) -> LoadedModel:
  """Reads a work directory, or GPT-2 in Hugging Face's or OpenAI's format.

  Args:
    path: the directory.
    tokenizer: replaces the one in `path`.

  Raises:
    InputError: the model does not exist, its files are damaged, or its
      tokenizer is not supported.
  """
  path = Path(path)
  if detect_format(path) is Format.WORKDIR:
    trained = load_trained(path, tokenizer)
    config, weights = trained.run.model, trained.model.params
    tokenizer = trained.tokenizer
  else:
    trained = None
    config, weights = load_weights(path)
    tokenizer = tokenizer or _published_tokenizer(path, config)
  check_vocab_size(path, config, tokenizer)
  return LoadedModel(config, weights, tokenizer, trained)


def check_vocab_size(
  path: str | Path, config: GPTConfig, tokenizer: Tokenizer
) -> None:
  """Raises InputError if a model and a tokenizer differ in vocabulary size."""
  if tokenizer.vocab_size != config.vocab_size:
    raise InputError(
      f'{path}: the model knows {config.vocab_size} tokens, the '
      f'{tokenizer.name} tokenizer {tokenizer.vocab_size}; give the tokenizer '
      'that it was trained with'
    )


def load_weights(path: str | Path) -> tuple[GPTConfig, Params]:
  """Reads a model of any format without its tokenizer.

  Raises:
    InputError: the model does not exist, or its files are damaged.
  """
  path = Path(path)
  found = detect_format(path)
  if found is Format.OPENAI:
    return openai_gpt2.read(path)
  if found is Format.HUGGINGFACE:
    return huggingface.read(path)
  trained = load_trained(path)
  return trained.run.model, trained.model.params


def load_trained(
  path: str | Path, tokenizer: Tokenizer | None = None
) -> Trained:
  """Loads the best checkpoint of a run, with adapters merged into the model.

  If it is damaged, prints a line to standard error and loads the next best.

  Args:
    path: the directory.
    tokenizer: replaces the one in `path`.

  Raises:
    InputError: there is no run, no checkpoint, or none that can be read.
  """
  path = Path(path)
  if workdir.holds_run(path) and detect_format(path) is not Format.WORKDIR:
    raise InputError(
      f'{path} holds {detect_format(path).value}, not a run; make one of it '
      f'with minigpt convert --from={path}'
    )
  run = workdir.load_config(path)
  tokenizer = tokenizer or tokenizers.load(path / 'tokenizer.json')
  check_vocab_size(path, run.model, tokenizer)
  candidates, damages = checkpoint.scan(workdir.checkpoints(path))
  for damage in damages:
    print(f'{damage.path} is damaged ({damage.reason})', file=sys.stderr)
  for found in checkpoint.rank(candidates):
    try:
      model = _restore_model(path, run, found)
      return Trained(run, model, tokenizer, found)
    except DamagedError as error:
      print(f'{error}; reading the next best', file=sys.stderr)
  reason = 'holds no checkpoint yet; train it with minigpt train --workdir='
  if candidates or damages:
    raise InputError(
      f'no checkpoint of {path} can be read; restore one from a backup'
    )
  raise InputError(f'{path} {reason}{path}')


def _restore_model(path: Path, run: RunConfig, found: Checkpoint) -> GPT:
  _check_size(path, run, found)
  if run.train.lora_rank:
    return _load_merged(run, found)
  # Partial: the optimizer's moments in the checkpoint are not needed.
  model = GPT(run.model)
  state = tf.train.Checkpoint(params=model.params)
  checkpoint.restore(found, state, partial=True)
  return model


def load_start(
  run: RunConfig,
  wanted: int | None = None,
  loaded: LoadedModel | None = None,
) -> tuple[Params, int]:
  """Loads the model that a run starts from; a shorter context cuts wpe.

  Args:
    run: the run, which names the model in `init_from`.
    wanted: the expected checksum of the weights; None: any.
    loaded: the model, if it is already loaded.

  Returns:
    The weights and their checksum.

  Raises:
    InputError: the model does not exist, or is not the one the run began with.
  """
  path, config = run.train.init_from, run.model
  found, weights = loaded[:2] if loaded else load_weights(path)
  # All other fields affect the shapes of tensors or the results.
  ours = {name: getattr(config, name) for name in CHANGEABLE_AT_START}
  fits = (
    dataclasses.replace(found, **ours) == config
    and config.context_length <= found.context_length
  )
  if fits:
    # Positions beyond a shorter context are never looked up.
    weights = weights._replace(wpe=weights.wpe[: config.context_length])
  crc = 0
  for leaf in tf.nest.flatten(weights):
    crc = checksum(np.asarray(leaf), crc)
  if not fits or wanted not in (None, crc):
    raise InputError(
      f'{path} is no longer the model that this run started from'
    )
  return weights, crc


def assign(variables: Params, weights: Params) -> None:
  """Assigns a tree of values to a tree of variables."""
  tf.nest.map_structure(lambda v, w: v.assign(w), variables, weights)


def _load_merged(run: RunConfig, found: Checkpoint) -> GPT:
  """Loads the model that the run started from, and merges its adapters."""
  recipe = run.train
  # First, as it refuses wrong sizes before the model takes memory.
  start, _ = load_start(run, found.info.get('start'))
  model = GPT(run.model)
  adapters = lora.init_adapters(run.model, recipe.lora_rank)
  checkpoint.restore(found, tf.train.Checkpoint(params=adapters), partial=True)
  assign(model.params, lora.merge(start, adapters, recipe.adapter_scale))
  return model


def _check_size(path: Path, run: RunConfig, found: Checkpoint) -> None:
  """Refuses a config that describes a model larger than its checkpoint.

  A damaged config may claim any size; this check comes before memory is taken.
  """
  n_least, rank = run.model.n_parameters, run.train.lora_rank
  if rank:  # Each dense layer has adapters [in, rank] and [rank, out].
    d, f = run.model.emb_dim, run.model.mlp_dim
    n_least = run.model.n_layers * rank * (6 * d + 2 * (d + f))
  held = sum(file.stat().st_size for file in found.path.glob('state.data-*'))
  if 4 * n_least > held:  # float32
    raise InputError(
      f'{path}/config.json describes a model larger than {found.path}'
    )


def _published_tokenizer(path: Path, config: GPTConfig) -> Tokenizer:
  """Returns the tokenizer: minigpt's own file, GPT-2's, or another BPE."""
  if (path / huggingface.TOKENIZER).is_file():
    return tokenizers.load(path / huggingface.TOKENIZER)
  ids = huggingface.vocabulary(path)
  if config.vocab_size == 50257:
    gpt2 = tokenizers.build('gpt2', '')
    # Tokens added to GPT-2's are padding to this model, and do not count.
    known = {token: i for token, i in ids.items() if i < gpt2.vocab_size}
    if not known or known == hf_files.vocabulary(gpt2.tokens):
      return gpt2
  if (path / 'tokenizer.json').is_file():
    return tokenizers.load(path / 'tokenizer.json')
  raise InputError(
    f'{path}: its {config.vocab_size} tokens are not those of GPT-2; give the '
    'tokenizer.json of the run that it was trained in'
  )
