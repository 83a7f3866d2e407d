"""Statistics of a data set, to look at before training."""

from collections import Counter
from typing import NamedTuple

import numpy as np

from minigpt.config import DataConfig
from minigpt.data import jsonl
from minigpt.data.token_shards import Tokens
from minigpt.data.training_data import any_text, read_training_data
from minigpt.data.windows import Windows
from minigpt.errors import UsageError
from minigpt.tokenizers import Tokenizer

_MOST = 1 << 22  # Tokens of each part that are examined.
# Upper bounds of the histogram of line lengths; longer lines come last.
BOUNDS = (0, 15, 31, 63, 127, 255, 511, 1023)
_BAR = 40  # Characters in the longest bar.
_N_WINDOWS = 5


class Lines(NamedTuple):
  """The lines of a text."""

  n: int
  n_repeated: int  # lines that are not empty and occurred before
  most_frequent: tuple[str, int]
  histogram: tuple[int, ...]  # counts of lengths up to `BOUNDS`, and longer


class Overview(NamedTuple):
  """The statistics; those of text are of the first tokens of each part."""

  tokenizer: Tokenizer
  train: Windows
  val: Tokens
  n_looked: int  # tokens of the training part that were examined
  n_characters: int
  n_bytes: int
  unseen: str  # characters that only the validation part has
  n_unused: int  # tokens of the vocabulary that never occur
  lines: Lines
  windows: tuple[str, ...]


def look(
  config: DataConfig, context_length: int, vocab_size: int | None = None
) -> Overview:
  """Reads a data set as training would.

  Args:
    config: of the data.
    context_length: tokens in a window.
    vocab_size: of a vocabulary to train.

  Raises:
    UsageError: the data set has prompts and completions, or as for training.
    InputError: the data set cannot be read.
  """
  if jsonl.holds_pairs(config.dataset):
    raise UsageError(
      f'{config.dataset} holds prompts and completions; give a data set of text'
    )
  data = read_training_data(config, context_length, None, any_text, vocab_size)
  assert isinstance(data.train, Windows) and not isinstance(data.val, tuple)
  tokenizer, train = data.tokenizer, data.train
  looked = np.asarray(train.tokens[:_MOST])
  text = tokenizer.decode(looked)
  unseen = set(tokenizer.decode(np.asarray(data.val[:_MOST]))) - set(text)
  starts = np.linspace(0, train.n_tokens - context_length, _N_WINDOWS)
  return Overview(
    tokenizer,
    train,
    data.val,
    len(looked),
    len(text),
    len(text.encode()),
    ''.join(sorted(unseen)),
    tokenizer.vocab_size - len(np.unique(looked)),
    count_lines(text),
    tuple(
      tokenizer.decode(train.tokens[start : start + context_length])
      for start in starts.astype(int).tolist()
    ),
  )


def count_lines(text: str) -> Lines:
  """Counts the lines of a text, by length and by frequency."""
  lines = text.split('\n')
  times = Counter(filter(None, map(str.strip, lines)))
  [most_frequent] = times.most_common(1) or [('', 0)]
  places = np.searchsorted(BOUNDS, list(map(len, lines)), side='left')
  return Lines(
    len(lines),
    times.total() - len(times),
    most_frequent,
    tuple(np.bincount(places, minlength=len(BOUNDS) + 1).tolist()),
  )


def describe(found: Overview) -> str:
  """Formats the statistics in about twenty lines."""
  train, val, lines = found.train, found.val, found.lines
  n = train.n_tokens + len(val)
  seen = f', of the first {found.n_looked:,}' * (
    found.n_looked < train.n_tokens
  )
  unseen = f': {found.unseen[:20]!r}' if found.unseen else ''
  text, times = lines.most_frequent
  return '\n'.join(
    [
      f'training    {train.n_tokens:,} tokens, {train.n_examples:,} windows of '
      f'{train.context_length}',
      f'validation  {len(val):,} tokens, {len(val) / n:.1%}',
      f'vocabulary  {found.tokenizer.vocab_size:,} ({found.tokenizer.name}); '
      f'{found.n_unused:,} of them never occur{seen}',
      f'per token   {found.n_characters / found.n_looked:.2f} characters, '
      f'{found.n_bytes / found.n_looked:.2f} bytes',
      f'unseen      {len(found.unseen)} characters of the validation part are '
      f'not in the training part{unseen}',
      f'lines       {lines.n:,}; {lines.n_repeated / lines.n:.1%} repeat an '
      f'earlier line; most often, {times:,} times, {text[:40]!r}',
      'lengths of lines in characters',
      *_bars(lines.histogram),
      'windows',
      *(f'  {window[:64]!r}' for window in found.windows),
    ]
  )


def labels() -> list[str]:
  """Returns the labels of the histogram's bins."""
  starts = [0, *(bound + 1 for bound in BOUNDS)]
  ranges = [f'{a}-{b}' for a, b in zip(starts[1:], BOUNDS[1:], strict=False)]
  return ['0', *ranges, f'{starts[-1]} up']


def _bars(histogram: tuple[int, ...]) -> list[str]:
  most = max(histogram)
  return [
    f'  {label:<9} {"#" * round(_BAR * n / most):<{_BAR}} {n:,}'.rstrip()
    for label, n in zip(labels(), histogram, strict=True)
  ]
