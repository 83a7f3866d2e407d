"""A vocabulary learned from files of any size, without tokens yet."""

import itertools
import os
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from minigpt import tokenizers
from minigpt.config.validation import as_strings
from minigpt.data.text_files import parts
from minigpt.data.text_formats import is_compressed
from minigpt.tokenizers import Tokenizer, bpe_trainer
from minigpt.tokenizers.bpe import BPETokenizer

# Text is about so many times as long as its compressed file.
_COMPRESSION = 4
SAMPLE_BYTES = 100 << 20


def learn(
  kind: str, paths: Sequence[str], raw: bool = False, **options: Any
) -> Tokenizer:
  """Makes a tokenizer of files of any size: one pass, in bounded memory.

  Characters take none to speak of, words as much as there are different ones.

  Args:
    kind: as for `tokenizers.build`.
    paths: the files.
    raw: leave byte order marks and line ends as they are.
    **options: of `tokenizers.build`.

  Raises:
    UsageError: there is no such kind, or the options make no sense.
    InputError: the text cannot be read, or is too little.
  """
  if kind == 'bpe':
    sample = _sample(paths, raw, special=options.get('special', ()))
    return tokenizers.build(kind, sample, **options)
  texts = parts(paths, tokenizers.cuts_to_learn(kind), raw)
  if kind == 'char':
    # It sets documents apart.
    texts = itertools.chain(texts, ['\n'])
  return tokenizers.build(kind, texts, **options)


def train_bpe(
  paths: Sequence[str],
  vocab_size: int | None,
  special: Sequence[str] = (),
  sample_bytes: int = SAMPLE_BYTES,
  raw: bool = False,
) -> BPETokenizer:
  """Trains a byte pair encoding on files, as `minigpt prepare` reads them.

  Args:
    paths: the files.
    vocab_size: tokens in all, special ones included.
    special: special tokens besides `<|endoftext|>`.
    sample_bytes: about so much text is looked at, taken evenly from all of it:
      memory grows with its distinct words.
    raw: leave byte order marks and line ends as they are.

  Raises:
    UsageError: size and special tokens make no sense.
    InputError: the text cannot be read, or is too little.
  """
  sample = _sample(paths, raw, sample_bytes, special)
  return bpe_trainer.train(sample, vocab_size, special)


def _sample(
  paths: Sequence[str],
  raw: bool,
  sample_bytes: int = SAMPLE_BYTES,
  special: Sequence[str] = (),
) -> Iterator[str]:
  """Yields about so much of the text, taken evenly from all of it."""
  n_bytes = sum(map(text_size, as_strings(paths)))
  share = min(1.0, sample_bytes / max(n_bytes, 1))
  cuts = tokenizers.cuts_to_learn('bpe', as_strings(special))
  return sampled(parts(paths, cuts, raw), share)


def text_size(path: str) -> int:
  """Returns about how many bytes of text a file holds; 0 where it is gone."""
  try:
    size = os.path.getsize(path)
  except OSError:  # Whoever reads it says so.
    return 0
  return size * _COMPRESSION if is_compressed(path) else size


def sampled(texts: Iterable[str], share: float) -> Iterator[str]:
  """Yields about a share of the text, the same texts each time."""
  n_seen = n_taken = 0
  for text in texts:
    if n_taken <= share * n_seen:
      n_taken += len(text)
      yield text
    n_seen += len(text)
