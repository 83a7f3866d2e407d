"""Resolves the name of a data set to text or token ids.

A data set is a built-in name, a path or glob of UTF-8 text, a .npy file of
token ids, or a token directory of `minigpt prepare`.
"""

import glob
import os
import sys
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
  """Reports text outside the vocabulary, or too long for the model."""


class Split(NamedTuple):
  """A training and a validation part: both text, or both token ids [N]."""

  train: str | Tokens
  val: str | Tokens


def training_size(n: int, val_fraction: float) -> int:
  """Returns how many of `n` characters, tokens or examples are for training."""
  return int(n * (1 - val_fraction))


def read_split(config: DataConfig) -> Split:
  """Reads the data set and splits it as `config` says.

  Raises:
    UsageError: there is no such data set, or it has no splits of its own.
    InputError: a file cannot be read, is not UTF-8, or is empty.
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
  n_train = training_size(len(whole), config.val_fraction)
  if isinstance(whole, TokenShards):
    return Split(whole.part(0, n_train), whole.part(n_train, len(whole)))
  return Split(whole[:n_train], whole[n_train:])


def resolve_tokenizer(overrides: Mapping[str, Any]) -> dict[str, Any]:
  """Adds the tokenizer of a token directory to the overrides.

  Args:
    overrides: explicit values, by field name.

  Raises:
    UsageError: the overrides name another tokenizer.
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
  """Loads the tokenizer of a token directory; None for other data sets."""
  if not token_shards.is_token_directory(dataset):
    return None
  return tokenizers.load(Path(dataset) / 'tokenizer.json')


def check_vocabulary(dataset: str | Path, tokenizer: Tokenizer) -> None:
  """Raises InputError for a token directory with another vocabulary.

  Other data sets pass: text is encoded with the tokenizer itself, and a .npy
  file does not say which tokenizer made it.
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

  # A line feed separates files, as in `joined`.
  if config.skip_bad_files:
    return '\n'.join(text for _, text in text_files.readable(paths, read))
  return '\n'.join(map(read, paths))


def text_paths(config: DataConfig) -> list[str]:
  """Returns the files of a text data set; an empty list for others."""
  dataset = config.dataset
  if (
    dataset in BUILT_IN
    or dataset.endswith('.npy')
    or token_shards.is_token_directory(dataset)
  ):
    return []
  return matching_files(dataset)


def matching_files(pattern: str) -> list[str]:
  """Returns the files of a path, folder or glob, sorted.

  An existing file is never treated as a glob. A folder stands for all files in
  it and its subfolders, without hidden ones.

  Raises:
    InputError: the folder is an unfinished preparation.
  """
  if os.path.isfile(pattern):
    return [pattern]
  if os.path.isdir(pattern):
    return _files_below(pattern)
  return sorted(filter(os.path.isfile, glob.glob(pattern, recursive=True)))


def _files_below(folder: str) -> list[str]:
  if os.path.isfile(os.path.join(folder, token_shards.PLAN)):
    raise InputError(
      f'{folder} is an unfinished preparation; run the same minigpt prepare '
      'command again'
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
  """Loads TFDS's three splits; joined in this order, they are the original."""
  import tensorflow_datasets as tfds  # Slow to import, and rarely needed.

  try:
    if not tfds.builder('tiny_shakespeare').is_prepared():
      # Without a network, TFDS tries for minutes.
      print(
        'downloading tiny_shakespeare once, 1 MB (without a network, press '
        'Ctrl-C and use --dataset=stdlib)',
        file=sys.stderr,
        flush=True,
      )
    parts = tfds.load('tiny_shakespeare', batch_size=1)
    return {
      name: next(iter(parts[name]))['text'].numpy()[0].decode('utf-8')
      for name in ('train', 'validation', 'test')
    }
  except Exception as error:  # TFDS may raise any kind of network error.
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
