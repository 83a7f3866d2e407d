"""Where text comes from: a data set's name becomes text, or token ids.

A data set is a name that is built in, a path or glob of UTF-8 text, a .npy
file of token ids, or a token directory of `minigpt prepare`.
"""

import glob
import os
import sysconfig
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from minigpt import tokenizers
from minigpt.config import DataConfig
from minigpt.data import text_files, token_shards
from minigpt.data.token_shards import Tokens, TokenShards
from minigpt.errors import InputError, UsageError, unknown
from minigpt.tokenizers import Tokenizer

SAMPLE = (
  'the sun sets in the west. the stars shine in the night. '
  'the moon rises with grace.'
)


class UnfitTextError(InputError):
  """Text that a tokenizer does not know, or that is too long for a model."""


class Split(NamedTuple):
  """A training and a validation part: both text, or both token ids [N]."""

  train: str | Tokens
  val: str | Tokens


def read_split(config: DataConfig) -> Split:
  """Reads the data set and splits it as `config` says.

  Raises:
    UsageError: no such data set, or it has no splits of its own.
    InputError: a file cannot be read, is not UTF-8, or holds nothing.
  """
  if config.own_splits:
    if config.dataset != 'tiny_shakespeare':
      raise UsageError(
        f'own_splits: {config.dataset} has none; use --val_fraction instead'
      )
    parts = _tiny_shakespeare()
    return Split(parts['train'], parts['validation'])
  whole = _read(config)
  if not len(whole):
    raise InputError(f'{config.dataset} holds no text; give one that does')
  if config.val_fraction == 0:
    return Split(whole, whole)
  n_train = int(len(whole) * (1 - config.val_fraction))
  if isinstance(whole, TokenShards):
    return Split(whole.part(0, n_train), whole.part(n_train, len(whole)))
  return Split(whole[:n_train], whole[n_train:])


def resolve_tokenizer(overrides: Mapping[str, Any]) -> dict[str, Any]:
  """Returns the overrides with the tokenizer that the data set comes with.

  Only a token directory comes with one.

  Args:
    overrides: values that were set explicitly, by the names of their fields.

  Raises:
    UsageError: another tokenizer was asked for.
    InputError: the directory's tokenizer cannot be read.
  """
  dataset = overrides.get('dataset', '')
  tokenizer = directory_tokenizer(dataset)
  if tokenizer is None:
    return dict(overrides)
  name = tokenizer.name
  if overrides.get('tokenizer', name) != name:
    raise UsageError(
      f'--tokenizer={overrides["tokenizer"]}: the tokens in {dataset} were '
      f'made with {name}; drop the flag, or prepare the text again'
    )
  for flag in ('special', 'unknown_character'):
    if overrides.get(flag):
      raise UsageError(
        f'--{flag}: the tokens in {dataset} have a vocabulary; drop the flag, '
        'or prepare the text again'
      )
  return {**overrides, 'tokenizer': name}


def directory_tokenizer(dataset: str | Path) -> Tokenizer | None:
  """Reads a token directory's tokenizer; None for any other data set."""
  if not token_shards.is_token_directory(dataset):
    return None
  return tokenizers.load(Path(dataset) / 'tokenizer.json')


def check_vocabulary(dataset: str | Path, tokenizer: Tokenizer) -> None:
  """Raises InputError for a token directory of another vocabulary.

  Any other data set passes: text is encoded with the tokenizer itself, and a
  .npy file says nothing of its own.
  """
  own = directory_tokenizer(dataset)
  if own is not None and own.to_json() != tokenizer.to_json():
    raise InputError(
      f'the tokens in {dataset} were made with another vocabulary '
      f'({own.name}, {own.vocab_size:,} tokens) than the model knows '
      f'({tokenizer.name}, {tokenizer.vocab_size:,}): prepare the text again '
      "with --tokenizer=PATH, the model's own tokenizer.json"
    )


def _read(config: DataConfig) -> str | Tokens:
  dataset = config.dataset
  if dataset in BUILT_IN:
    return BUILT_IN[dataset]()
  if dataset.endswith('.npy'):
    return token_shards.map_tokens(dataset)
  if token_shards.is_token_directory(dataset):
    return token_shards.open_tokens(dataset)
  if paths := text_paths(config):
    return _whole_text(paths, config)
  if os.path.isdir(dataset):
    raise InputError(f'{dataset} is a directory without files; name another')
  if os.sep in dataset or glob.has_magic(dataset) or '.' in dataset:
    raise InputError(f'{dataset}: no such file; check the path')
  raise unknown('dataset', dataset, [*BUILT_IN, 'a path'])


def _whole_text(paths: list[str], config: DataConfig) -> str:
  def read(path: str) -> str:
    return ''.join(text_files.joined([path], config.raw_text))

  # As `joined` sets files apart.
  if config.skip_bad_files:
    return '\n'.join(text for _, text in text_files.readable(paths, read))
  return '\n'.join(map(read, paths))


def text_paths(config: DataConfig) -> list[str]:
  """Returns the files of a data set of text; none for any other."""
  dataset = config.dataset
  if (
    dataset in BUILT_IN
    or dataset.endswith('.npy')
    or token_shards.is_token_directory(dataset)
  ):
    return []
  return matching_files(dataset)


def matching_files(pattern: str) -> list[str]:
  """Returns the files that a path or glob names, sorted.

  A file of just that name is meant itself, though its name may be a pattern.
  A folder stands for all files in it and below, without hidden ones.

  Raises:
    InputError: the folder is a preparation that has not ended.
  """
  if os.path.isfile(pattern):
    return [pattern]
  if os.path.isdir(pattern):
    return _files_below(pattern)
  return sorted(filter(os.path.isfile, glob.glob(pattern, recursive=True)))


def _files_below(folder: str) -> list[str]:
  if os.path.isfile(os.path.join(folder, token_shards.PLAN)):
    raise InputError(
      f'{folder} is a preparation that has not ended; give the same command of '
      'minigpt prepare again'
    )
  found = []
  for place, folders, names in os.walk(folder):
    # In place: `os.walk` descends into what is left in this list.
    folders[:] = [name for name in folders if not name.startswith('.')]
    found += [os.path.join(place, n) for n in names if not n.startswith('.')]
  return sorted(filter(os.path.isfile, found))


def _stdlib() -> str:
  """Returns the ASCII sources of Python's standard library, sorted by path."""
  root = sysconfig.get_path('stdlib')
  skipped = {'site-packages', 'dist-packages', 'test', 'tests', '__pycache__'}
  texts = []
  for folder, folders, names in os.walk(root):
    # In place: `os.walk` descends into what is left in this list.
    folders[:] = sorted(set(folders) - skipped)
    for name in sorted(names):
      if name.endswith('.py'):
        with open(os.path.join(folder, name), 'rb') as file:
          source = file.read()
        if source.isascii():
          texts.append(source.decode('ascii'))
  if not texts:
    raise InputError(f'no Python sources under {root}; use another --dataset')
  return '\n'.join(texts)


def _tiny_shakespeare() -> dict[str, str]:
  """Loads TFDS's three splits; joined in this order they are the original."""
  import tensorflow_datasets as tfds  # Slow to import, and rarely needed.

  try:
    parts = tfds.load('tiny_shakespeare', batch_size=1)
    return {
      name: next(iter(parts[name]))['text'].numpy()[0].decode('utf-8')
      for name in ('train', 'validation', 'test')
    }
  except Exception as error:  # TFDS lets every kind of network error through.
    raise InputError(
      'tiny_shakespeare could not be loaded by tensorflow_datasets '
      f'({type(error).__name__}); it needs a network once, or TFDS_DATA_DIR '
      'set to a folder that holds it'
    ) from None


BUILT_IN = {
  'sample': lambda: SAMPLE,
  'stdlib': _stdlib,
  'tiny_shakespeare': lambda: ''.join(_tiny_shakespeare().values()),
}
