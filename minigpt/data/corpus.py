"""Turns a corpus of files into a token directory, with several processes."""

import functools
import itertools
import json
import multiprocessing
import os
import signal
import threading
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

from minigpt import tokenizers
from minigpt.config.validation import as_strings
from minigpt.data import token_shards, vocabulary
from minigpt.data.shard_writer import (
  delete_shards,
  fill_shards,
  write_manifest,
  write_shard,
)
from minigpt.data.sources import matching_files
from minigpt.data.text_files import readable, split_file, text_length
from minigpt.data.token_shards import Manifest, Shard, token_dtype
from minigpt.errors import InputError, UsageError
from minigpt.runtime.atomic_io import sweep, write_text
from minigpt.runtime.json_io import parse_json
from minigpt.tokenizers import Tokenizer

# Version of the rule that splits text into shards. An unfinished preparation of
# another version is deleted and begun again; finished ones stay valid.
_LAYOUT = 4


def input_paths(patterns: list[str], skip_bad_files: bool = False) -> list[str]:
  """Returns the files that the patterns name, each once, sorted.

  Args:
    patterns: paths, folders and globs.
    skip_bad_files: leave out unreadable files, and print their names.

  Raises:
    UsageError: there are no patterns.
    InputError: a pattern matches no file.
  """
  if not patterns:
    raise UsageError('--input is missing; give it paths or globs of text')
  found: set[str] = set()
  for pattern in as_strings(patterns):
    if not (paths := matching_files(pattern)):
      raise InputError(f'{pattern}: no such file; check --input')
    found.update(paths)
  paths = sorted(found)
  if skip_bad_files:
    paths = [path for path, _ in readable(paths, text_length)]
  return paths


def make_tokenizer(
  name: str,
  paths: Sequence[str] = (),
  raw: bool = False,
  **options: Any,
) -> Tokenizer:
  """Loads a tokenizer, or learns a vocabulary from files.

  Args:
    name: as for `tokenizers.build`.
    paths: the files.
    raw: keep byte order marks and line ends.
    **options: of `tokenizers.build`.

  Raises:
    UsageError: the name is unknown, or the tokenizer has no token to separate
      documents.
    InputError: the text cannot be read, or gives no vocabulary.
  """
  tokenizer = vocabulary.learn(name, paths, raw, **options)
  if tokenizer.boundary is None:
    raise UsageError(
      f'--tokenizer={name}: a {tokenizer.name} tokenizer has no end-of-text '
      'and no line feed to set documents apart; train one on text that has '
      'line feeds, or use another kind'
    )
  return tokenizer


def prepare(
  paths: list[str],
  tokenizer: Tokenizer,
  folder: str | Path,
  n_workers: int,
  shard_bytes: int,
  raw: bool = False,
) -> Manifest:
  """Writes a token directory, or its missing shards.

  Args:
    paths: files of text.
    tokenizer: a tokenizer with a `boundary`.
    folder: the directory; the caller must be its only writer.
    n_workers: number of processes.
    shard_bytes: approximate size of the text in each shard.
    raw: keep byte order marks and line ends.

  Raises:
    UsageError: the directory belongs to other text or another tokenizer.
    InputError: the text cannot be read, or the tokens cannot be written.
  """
  folder, paths = Path(folder), as_strings(paths)
  sweep(folder)
  _begin(paths, tokenizer, folder, shard_bytes, raw)
  ranges = [split_file(p, shard_bytes, tokenizer.cuts, raw) for p in paths]
  parts = fill_shards(itertools.chain(*ranges), shard_bytes)
  dtype = token_dtype(tokenizer.vocab_size).name
  write = functools.partial(write_shard, folder=folder, dtype=dtype)
  with _pool(min(n_workers, len(parts))) as pool:
    jobs = [pool.submit(write, part, number=i) for i, part in enumerate(parts)]
    try:
      shards = [_report(job.result(), len(jobs)) for job in jobs]
    except BaseException:
      pool.shutdown(cancel_futures=True)
      raise
  manifest = write_manifest(folder, shards, tokenizer, dtype)
  (folder / token_shards.PLAN).unlink(missing_ok=True)
  return manifest


def _report(shard: Shard, n_shards: int) -> Shard:
  print(f'{shard.name} of {n_shards}: {shard.n_tokens:,} tokens', flush=True)
  return shard


def _begin(
  paths: list[str],
  tokenizer: Tokenizer,
  folder: Path,
  shard_bytes: int,
  raw: bool = False,
) -> None:
  """Writes the plan, or checks that an existing plan is the same."""
  if token_shards.is_token_directory(folder):
    raise UsageError(f'{folder} holds tokens already; choose another --output')
  plan = _plan(paths, tokenizer, shard_bytes, raw)
  path, text = folder / token_shards.PLAN, json.dumps(plan)
  begun, plan = _begun(path), json.loads(text)
  if begun is not None and {**begun, 'layout': _LAYOUT} != plan:
    raise UsageError(
      f'{folder} holds part of other text, or of the same text split or '
      'tokenized otherwise; delete it, or choose another --output'
    )
  if begun not in (None, plan):  # Begun by another version.
    delete_shards(folder)
  # Always: the workers read this file, and it must match the plan.
  tokenizers.save(tokenizer, folder / 'tokenizer.json')
  write_text(path, text)


def _plan(
  paths: list[str], tokenizer: Tokenizer, shard_bytes: int, raw: bool
) -> dict[str, Any]:
  """Returns everything that determines the content of shards."""
  stats = [os.stat(path) for path in paths]
  return {
    'inputs': [
      [path, stat.st_size, stat.st_mtime_ns]
      for path, stat in zip(paths, stats, strict=True)
    ],
    'tokenizer': tokenizer.to_json(),
    'shard_bytes': shard_bytes,
    'layout': _LAYOUT,
    'raw': raw,
  }


def _begun(path: Path) -> dict[str, Any] | None:
  """Returns the plan of an unfinished preparation, if there is one."""
  try:
    content = path.read_bytes() if path.is_file() else None
  except OSError as error:
    raise InputError(f'{path} cannot be read ({error.strerror})') from None
  try:
    return None if content is None else parse_json(content, str(path))
  except InputError:
    return {}  # Not a plan.


def _pool(n_workers: int) -> ProcessPoolExecutor:
  """Starts worker processes; not by fork, as this process has threads."""
  context = multiprocessing.get_context('forkserver')
  return ProcessPoolExecutor(
    n_workers, context, initializer=_end_with_the_parent
  )


def _end_with_the_parent() -> None:
  """Ignores Ctrl-C, and ends this process when its parent has ended."""
  signal.signal(signal.SIGINT, signal.SIG_IGN)
  parent = multiprocessing.parent_process()
  assert parent  # Only processes of the pool call this.

  def watch() -> None:
    parent.join()
    os._exit(1)

  threading.Thread(target=watch, daemon=True).start()
