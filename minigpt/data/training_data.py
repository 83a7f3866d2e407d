"""The training and validation data of a run."""

import functools
import math
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import NamedTuple, TypeAlias

import numpy as np

from minigpt import tokenizers
from minigpt.config import DataConfig
from minigpt.data import (
  batches,
  jsonl,
  sequence_packing,
  sources,
  token_cache,
  token_file,
)
from minigpt.data.batches import EvalBatch
from minigpt.data.sequence_packing import PackedBatch, PackedExamples
from minigpt.data.sources import UnfitTextError
from minigpt.data.token_cache import TokenizedText, large_text
from minigpt.data.token_shards import Tokens, token_dtype
from minigpt.data.windows import Fingerprint, Windows, fingerprint, make_windows
from minigpt.errors import InputError
from minigpt.tokenizers import Tokenizer


class TrainingData(NamedTuple):
  """Tokens for training and validation, and their tokenizer."""

  tokenizer: Tokenizer
  train: Windows | PackedExamples
  val: Tokens | PackedExamples
  fingerprint: Fingerprint
  opening: str  # the prompt of samples
  stop: tuple[str, ...] = ()  # stop strings of samples

  @property
  def n_val_tokens(self) -> int:
    """Counts the tokens of the validation part."""
    if isinstance(self.val, PackedExamples):
      return self.val.n_tokens
    return len(self.val)

  def first_val_tokens(self, n: int) -> np.ndarray:
    """Returns the first `n` tokens of the validation part, int32 [n]."""
    val = self.val
    if isinstance(val, PackedExamples):
      return val.tokens[0, :n]
    return np.asarray(val[:n], np.int32)

  def eval_batches(
    self, batch_size: int, context_length: int, stride: int, limit: int
  ) -> Iterator[EvalBatch | PackedBatch]:
    """Yields batches of the validation part; see `batches.eval_batches`."""
    return _eval_batches(self.val, batch_size, context_length, stride, limit)

  def train_eval_batches(
    self, batch_size: int, context_length: int, stride: int, limit: int
  ) -> Iterator[EvalBatch | PackedBatch]:
    """Yields batches evenly spread over the training part.

    They are as many as `eval_batches` yields, so both take the same time.
    """
    train = self.train
    part = train.tokens if isinstance(train, Windows) else train
    if isinstance(self.val, PackedExamples):
      n_examples = self.val.n_examples
    else:
      stride = stride or context_length
      starts = batches.eval_starts(len(self.val), context_length, stride)
      n_examples = len(starts)
    limit = limit or math.ceil(n_examples / batch_size)
    return _eval_batches(part, batch_size, context_length, stride, limit)


def _eval_batches(
  part: Tokens | PackedExamples,
  batch_size: int,
  context_length: int,
  stride: int,
  limit: int,
) -> Iterator[EvalBatch | PackedBatch]:
  if isinstance(part, PackedExamples):
    return sequence_packing.packed_eval_batches(part, batch_size, limit)
  return batches.eval_batches(part, context_length, batch_size, stride, limit)


# Called with the fingerprint of the text, before further checks.
CheckText: TypeAlias = Callable[[Fingerprint], object]
# Builds a tokenizer with the vocabulary of a text.
Build: TypeAlias = Callable[[str | Iterable[str]], Tokenizer]


def any_text(found: Fingerprint) -> None:
  """Accepts every text."""


def read_training_data(
  config: DataConfig,
  context_length: int,
  tokenizer: Tokenizer | None = None,
  check: CheckText = any_text,
  vocab_size: int | None = None,
  cache: Path | None = None,
) -> TrainingData:
  """Reads the data set, and builds a tokenizer if there is none.

  Args:
    config: the data set and its split.
    context_length: of the model.
    tokenizer: of the run to continue or the model to start from; None takes
      that of a token directory, or builds one.
    check: raises an error if the text is not that of the run to continue.
    vocab_size: of the tokenizer to build, if its size can be chosen.
    cache: a folder for the tokens of a large text, or for the results of
      checking a token file; None stores nothing.

  Raises:
    UsageError: there is no such data set, or it is too short.
    UnfitTextError: the text contains characters outside the vocabulary, or an
      example is too long.
    InputError: the data set cannot be read, or has another vocabulary.
  """
  if tokenizer is not None:
    sources.check_vocabulary(config.dataset, tokenizer)
  build = functools.partial(
    tokenizers.build,
    config.tokenizer,
    vocab_size=vocab_size,
    special=config.special,
    unknown_character=config.unknown_character,
  )
  if jsonl.holds_pairs(config.dataset):
    return _read_pairs(config, context_length, tokenizer, build, check)
  text = _tokenized(config, tokenizer, build, cache)
  return _windows_of(text, context_length, config.stride, check)


def _tokenized(
  config: DataConfig,
  tokenizer: Tokenizer | None,
  build: Build,
  cache: Path | None,
) -> TokenizedText:
  """Reads and tokenizes the data set; a large text in parts."""
  if paths := large_text(config):
    return token_cache.open_tokens(cache, paths, config, tokenizer, build)
  if cache and config.dataset.endswith('.npy') and not config.own_splits:
    train, val, found = token_file.open_file(
      Path(config.dataset), config.val_fraction, cache
    )
    return TokenizedText(tokenizer or build(''), train, val, found)
  return _read_text(config, tokenizer, build)


def _read_text(
  config: DataConfig, tokenizer: Tokenizer | None, build: Build
) -> TokenizedText:
  split = sources.read_split(config)
  tokenizer = tokenizer or _build_tokenizer(config, build, split)
  train = _tokens(split.train, tokenizer)
  # Without a validation part, both are the same text; encode it once.
  val = train if split.val is split.train else _tokens(split.val, tokenizer)
  return TokenizedText(tokenizer, train, val, fingerprint(train, val))


def _windows_of(
  text: TokenizedText, context_length: int, stride: int, check: CheckText
) -> TrainingData:
  """Checks the tokens, and makes windows of the training part."""
  tokenizer, train, val, found = text
  check(found)
  windows = make_windows(train, context_length, stride, tokenizer.vocab_size)
  if len(val) < 2:
    raise InputError(
      'the validation part has fewer than 2 tokens; raise --val_fraction, or '
      'set it to 0 to evaluate on the training text'
    )
  opening = tokenizer.decode(val[:8])
  return TrainingData(tokenizer, windows, val, found, opening)


def _build_tokenizer(
  config: DataConfig, build: Build, split: sources.Split
) -> Tokenizer:
  train, val = split
  if isinstance(train, str) and isinstance(val, str):
    text = train if val is train else train + val
    return build(text)
  return sources.directory_tokenizer(config.dataset) or build('')


def _tokens(part: str | Tokens, tokenizer: Tokenizer) -> Tokens:
  if not isinstance(part, str):
    return part
  try:
    tokens = tokenizer.encode(part)
  except InputError as error:
    raise UnfitTextError(str(error)) from None
  return tokens.astype(token_dtype(tokenizer.vocab_size))


def _read_pairs(
  config: DataConfig,
  context_length: int,
  tokenizer: Tokenizer | None,
  build: Build,
  check: CheckText,
) -> TrainingData:
  pairs = jsonl.read_pairs(config.dataset)
  if tokenizer is None:
    texts = [text for p in pairs for text in (p.prompt, p.completion)]
    # With a line feed, which may have to end completions.
    tokenizer = build('\n'.join([*texts, '']))
  n_train = sources.training_size(len(pairs), config.val_fraction)
  parts = pairs[:n_train], pairs[n_train:]
  if not config.val_fraction:
    parts = pairs, pairs
  if not all(parts):
    raise InputError(
      f'{config.dataset} has {len(pairs)} examples, too few for a '
      'validation part; give more, or --val_fraction=0'
    )
  train, val = (
    sequence_packing.pack(part, tokenizer, context_length, config.truncate)
    for part in parts
  )
  found = fingerprint(train.tokens.ravel(), val.tokens.ravel())
  check(found)
  stop = ('\n',) if sequence_packing.ends_with_line(tokenizer) else ()
  return TrainingData(tokenizer, train, val, found, parts[1][0].prompt, stop)
