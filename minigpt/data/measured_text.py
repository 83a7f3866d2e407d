"""The text that a trained model is measured on: a validation part."""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

from minigpt.config import DataConfig
from minigpt.data import sources, token_cache
from minigpt.data.shard_writer import write_array
from minigpt.data.token_cache import LargeText, large_text
from minigpt.data.token_shards import Tokens, map_file, token_dtype
from minigpt.runtime.atomic_io import unnamed_files
from minigpt.tokenizers import Tokenizer
from minigpt.tokenizers.cuts import Cuts


class MeasuredText(NamedTuple):
  """Tokens, and the text that they stand for."""

  tokens: Tokens  # [N]
  n_bytes: int | None  # Of all but the first token; None: those of the tokens.


def read(
  config: DataConfig,
  tokenizer: Tokenizer,
  cache: Path | None = None,
  limit: int = 0,
) -> MeasuredText:
  """Reads the validation part of a data set, large text in parts.

  Args:
    config: names the data set, and says how to split it.
    tokenizer: the model's.
    cache: where the tokens of the run's own text may be; it is not written.
    limit: tokens from the first on; 0: all.

  Raises:
    UsageError: there is no such data set.
    InputError: it cannot be read, was made with another vocabulary, or holds
      what the tokenizer does not know.
  """
  sources.check_vocabulary(config.dataset, tokenizer)
  if paths := large_text(config):
    # What unknown tokens stand for, text alone tells.
    if cache and tokenizer.unknown is None:
      found = token_cache.cached(cache, paths, config, tokenizer)
      if found:
        return MeasuredText(_first(found.val, limit), None)
    return _streamed(LargeText(paths, config), tokenizer, limit)
  val = sources.read_split(config).val
  if isinstance(val, str):
    n_bytes = int(np.sum(_first(tokenizer.token_sizes(val), limit)[1:]))
    return MeasuredText(_first(tokenizer.encode(val), limit), n_bytes)
  return MeasuredText(_first(val, limit), None)


def _first(tokens: Tokens, limit: int) -> Tokens:
  # To slice a token directory is to read it into memory.
  return tokens[:limit] if limit else tokens


def _streamed(
  text: LargeText, tokenizer: Tokenizer, limit: int
) -> MeasuredText:
  """Returns the tokens in a file that is gone with the process."""
  n_bytes = 0

  def ids() -> Iterator[np.ndarray]:
    nonlocal n_bytes
    n_left = limit or sys.maxsize
    skipped = 1  # The first token is not scored.
    for part in _val_parts(text, tokenizer.cuts):
      found = tokenizer.encode(part)[:n_left]
      if tokenizer.unknown is not None:
        sizes = tokenizer.token_sizes(part)[skipped : len(found)]
        n_bytes, skipped = n_bytes + int(sizes.sum()), 0
      n_left -= len(found)
      yield found
      if not n_left:
        return

  with unnamed_files() as create:
    file = create()
    write_array(file, ids(), token_dtype(tokenizer.vocab_size).name)
    tokens = map_file(file)
  return MeasuredText(tokens, None if tokenizer.unknown is None else n_bytes)


def _val_parts(text: LargeText, cuts: Cuts) -> Iterator[str]:
  for is_val, part in text.split(cuts):
    if is_val or not text.config.val_fraction:
      yield part
