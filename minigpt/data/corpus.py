"""A corpus of files, turned into a token directory by several processes."""

import functools
import glob
import json
import multiprocessing
import os
import signal
import threading
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np

from minigpt import tokenizers
from minigpt.data import token_shards
from minigpt.data.shard_writer import cut, finish, write_shard
from minigpt.errors import InputError, UsageError, unknown
from minigpt.runtime.atomic_io import sweep, write_text
from minigpt.tokenizers import Tokenizer


def input_paths(patterns: list[str]) -> list[str]:
  """The files that the patterns name, each once.

  Raises:
    UsageError: there are no patterns.
    InputError: a pattern matches no file.
  """
  if not patterns:
    raise UsageError('--input is missing; give it paths or globs of text')
  found = set()
  for pattern in patterns:
    matches = filter(os.path.isfile, glob.glob(pattern, recursive=True))
    if not (paths := set(matches)):
      raise InputError(f'{pattern}: no such file; check --input')
    found |= paths
  return sorted(found)


def make_tokenizer(name: str) -> Tokenizer:
  """Raises UsageError for one that is unknown or cannot end a text."""
  if name.endswith('.json'):
    tokenizer = tokenizers.load(name)
  elif name == 'gpt2':
    tokenizer = tokenizers.build(name, '')
  else:
    raise unknown('tokenizer', name, ['gpt2', 'a tokenizer.json'])
  if tokenizer.end_of_text is None:
    raise UsageError(
      f'--tokenizer={name}: a {tokenizer.name} tokenizer has no end-of-text '
      'to set documents apart; use gpt2 or one of words'
    )
  return tokenizer


def prepare(
  paths: list[str],
  tokenizer: Tokenizer,
  folder: Path,
  n_workers: int,
  shard_bytes: int,
) -> token_shards.Manifest:
  """Writes a token directory, or what is missing of it.

  Raises:
    UsageError: the directory is of other text or another tokenizer.
    InputError: the text cannot be read, or the tokens cannot be written.
  """
  sweep(folder)
  _begin(paths, tokenizer, folder, shard_bytes)
  pieces = [piece for path in paths for piece in cut(path, shard_bytes)]
  dtype = np.min_scalar_type(tokenizer.vocab_size - 1).name
  write = functools.partial(write_shard, folder=folder, dtype=dtype)
  with _pool(min(n_workers, len(pieces))) as pool:
    jobs = [pool.submit(write, p, number=i) for i, p in enumerate(pieces)]
    try:
      made = [_reported(job.result(), len(jobs)) for job in jobs]
    except BaseException:
      pool.shutdown(cancel_futures=True)
      raise
  return finish(folder, made, tokenizer, dtype)


def _reported(shard: token_shards.Shard, n_shards: int) -> token_shards.Shard:
  print(f'{shard.name} of {n_shards}: {shard.n_tokens:,} tokens', flush=True)
  return shard


def _begin(
  paths: list[str], tokenizer: Tokenizer, folder: Path, shard_bytes: int
) -> None:
  """Writes down what is prepared, or checks that it is still the same."""
  if token_shards.is_token_directory(folder):
    raise UsageError(f'{folder} holds tokens already; choose another --output')
  stats = [os.stat(path) for path in paths]
  plan = {
    'inputs': [
      [path, stat.st_size, stat.st_mtime_ns]
      for path, stat in zip(paths, stats, strict=True)
    ],
    'tokenizer': tokenizer.to_json(),
    'shard_bytes': shard_bytes,
  }
  text, path = json.dumps(plan), folder / 'plan.json'
  if not path.is_file():
    tokenizers.save(tokenizer, folder / 'tokenizer.json')
    write_text(path, text)
  elif path.read_text(encoding='utf-8') != text:
    raise UsageError(
      f'{folder} holds part of other text, or of the same text cut or '
      'tokenized otherwise; delete it, or choose another --output'
    )


def _pool(n_workers: int) -> ProcessPoolExecutor:
  """Processes of their own: none is a fork of a program with threads."""
  context = multiprocessing.get_context('forkserver')
  return ProcessPoolExecutor(n_workers, context, initializer=_follow)


def _follow() -> None:
  """Leaves Ctrl-C to the parent, and ends when it does."""
  signal.signal(signal.SIGINT, signal.SIG_IGN)

  def watch():
    multiprocessing.parent_process().join()
    os._exit(1)

  threading.Thread(target=watch, daemon=True).start()
