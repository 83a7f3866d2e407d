"""Learns a vocabulary from files of any size."""

import itertools
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from minigpt import tokenizers
from minigpt.config.validation import as_strings
from minigpt.data.text_files import parts
from minigpt.data.text_formats import text_size
from minigpt.tokenizers import Tokenizer, bpe_trainer
from minigpt.tokenizers.bpe import BPETokenizer

SAMPLE_BYTES = 100 << 20


def learn(
  kind: str, paths: Sequence[str], raw: bool = False, **options: Any
) -> Tokenizer:
  """Builds a tokenizer from files of any size, in one pass.

  Memory is constant for characters, and grows with the number of different
  words for words; byte pairs use a sample.

  Args:
    kind: as for `tokenizers.build`.
    paths: the files.
    raw: keep byte order marks and line ends.
    **options: of `tokenizers.build`.

  Raises:
    UsageError: there is no such kind, or the options make no sense.
    InputError: the text cannot be read, or is too short.
  """
  if kind == 'bpe':
    sample = _sample(paths, raw, special=options.get('special', ()))
    return tokenizers.build(kind, sample, **options)
  texts = parts(paths, tokenizers.cuts_to_learn(kind), raw)
  if kind == 'char':
    # A line feed separates documents, so the vocabulary needs it.
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
    vocab_size: number of tokens, including special ones.
    special: special tokens besides `<|endoftext|>`.
    sample_bytes: approximate size of the sample, taken evenly from the text;
      memory grows with the number of its different words.
    raw: keep byte order marks and line ends.

  Raises:
    UsageError: the size or the special tokens make no sense.
    InputError: the text cannot be read, or is too short.
  """
  sample = _sample(paths, raw, sample_bytes, special)
  return bpe_trainer.train(sample, vocab_size, special)


def _sample(
  paths: Sequence[str],
  raw: bool,
  sample_bytes: int = SAMPLE_BYTES,
  special: Sequence[str] = (),
) -> Iterator[str]:
  """Yields a sample of about `sample_bytes`, taken evenly from the text."""
  n_bytes = sum(map(text_size, as_strings(paths)))
  share = min(1.0, sample_bytes / max(n_bytes, 1))
  cuts = tokenizers.cuts_to_learn('bpe', as_strings(special))
  return sampled(parts(paths, cuts, raw), share)


def sampled(texts: Iterable[str], share: float) -> Iterator[str]:
  """Yields about a share of the texts, always the same ones."""
  n_seen = n_taken = 0
  for text in texts:
    if n_taken <= share * n_seen:
      n_taken += len(text)
      yield text
    n_seen += len(text)
