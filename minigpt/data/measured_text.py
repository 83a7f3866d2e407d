"""The text on which a trained model is evaluated: a validation part."""

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
  """The tokens of a text, and its size."""

  tokens: Tokens  # [N]
  n_bytes: int | None  # bytes after the first token; None: as the tokens' bytes


def read(
  config: DataConfig,
  tokenizer: Tokenizer,
  cache: Path | None = None,
  limit: int = 0,
) -> MeasuredText:
  """Reads the validation part of a data set; a large text in parts.

  Args:
    config: the data set and its split.
    tokenizer: of the model.
    cache: the token cache of the run's own text; it is read, but not written.
    limit: how many tokens to read; 0: all.

  Raises:
    UsageError: there is no such data set.
    InputError: it cannot be read, has another vocabulary, or contains text
      outside the vocabulary.
  """
  sources.check_vocabulary(config.dataset, tokenizer)
  if paths := large_text(config):
    # The bytes behind unknown tokens are only known from the text.
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
  # A slice of a token directory would be read into memory.
  return tokens[:limit] if limit else tokens


def _streamed(
  text: LargeText, tokenizer: Tokenizer, limit: int
) -> MeasuredText:
  """Tokenizes a text into an unnamed file, which ends with the process."""
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
