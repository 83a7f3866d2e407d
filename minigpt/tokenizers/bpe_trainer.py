"""Learns the merges of a byte pair encoding from text.

`rustbpe` counts the distinct pieces of the text in parallel, then merges the
most frequent pair until the vocabulary is full. The result is deterministic: of
equally frequent pairs, the one with the lower ids comes first.
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from minigpt.config.validation import as_strings
from minigpt.errors import InputError, UsageError
from minigpt.tokenizers import base, byte_pairs, special
from minigpt.tokenizers.bpe import BPETokenizer
from minigpt.tokenizers.cuts import BEFORE_BLANKS, chunks

# Characters that are split at once; a longer piece overflows the stack.
_BLOCK = 1 << 16
_BLOCKS_AT_ONCE = 64


def train(
  parts: Iterable[str],
  vocab_size: int | None,
  special_tokens: Sequence[str] = (),
) -> BPETokenizer:
  """Trains a tokenizer.

  Args:
    parts: the text, in parts of any size; only one is in memory at a time.
    vocab_size: number of tokens: 256 bytes, the merges, `<|endoftext|>`, and
      the special tokens.
    special_tokens: strings that become one token each, like '<|user|>'.

  Raises:
    UsageError: the size is too small for the bytes and special tokens, or a
      special token is empty, repeated, or can overlap another.
    InputError: `rustbpe` is not installed, or the text is empty, contains a
      lone surrogate, or has too few different pairs.
  """
  parts = as_strings(parts)
  special_tokens = as_strings(special_tokens)
  vocab_size = check(vocab_size, special_tokens)
  n_special = len(special_tokens) + 1
  n_mergeable = vocab_size - n_special
  tokens = _learn(_blocks(parts, special_tokens), n_mergeable)
  if len(tokens) < n_mergeable:
    raise InputError(
      f'vocab_size={vocab_size}: the text fills a vocabulary of '
      f'{len(tokens) + n_special}, special tokens included; lower it, or give '
      'more text'
    )
  names = [special.END_OF_TEXT, *special_tokens]
  ids = {name: n_mergeable + i for i, name in enumerate(names)}
  return BPETokenizer([*tokens, *(name.encode() for name in names)], ids)


def check(vocab_size: int | None, special_tokens: Sequence[str]) -> int:
  """Returns the size; raises UsageError if no text could fill or fit it."""
  special.check(special_tokens)
  least, most = 257 + len(special_tokens), byte_pairs.MAX_VOCAB_SIZE
  if vocab_size is None:
    raise UsageError(
      'a bpe tokenizer is trained to a size: give --vocab_size, from '
      f'{least} to {most}'
    )
  if not least <= vocab_size <= most:
    raise UsageError(
      f'vocab_size={vocab_size}: it must lie between {least}, the 256 bytes '
      f'and {least - 256} special tokens, and {most}'
    )
  return vocab_size


def _learn(blocks: Iterator[str], n_tokens: int) -> list[bytes]:
  """Returns up to `n_tokens` tokens, in the order of their merges."""
  trainer = _rustbpe().Tokenizer()
  # Long runs of one character make tokens beyond LONGEST_TOKEN, which are
  # dropped below, so train some more. Tokens merged from these are longer
  # still, so no token of allowed length depends on a dropped one.
  spare = 256 + n_tokens // 8
  trainer.train_from_iterator(
    base.learnable(blocks),
    n_tokens + spare,
    buffer_size=_BLOCKS_AT_ONCE,
    pattern=byte_pairs.SPLIT,
  )
  tokens = (bytes(token) for token, _ in trainer.get_mergeable_ranks())
  kept = [token for token in tokens if len(token) <= byte_pairs.LONGEST_TOKEN]
  return kept[:n_tokens]


def _blocks(
  parts: Iterable[str], special_tokens: Sequence[str]
) -> Iterator[str]:
  """Yields the text, without special tokens, in blocks that are not empty."""
  split = special.pattern(special_tokens)
  for part in parts:
    texts = split.split(part)[::2] if split else [part]
    for text in texts:
      for chunk in chunks(text, BEFORE_BLANKS, _BLOCK):
        # Without a good place to cut, cut anywhere: it splits only one piece
        # in thousands.
        for start in range(0, len(chunk), 2 * _BLOCK):
          yield chunk[start : start + 2 * _BLOCK]


def _rustbpe() -> Any:
  try:
    import rustbpe
  except ImportError:
    raise InputError(
      "training a vocabulary needs rustbpe: pip install 'minigpt[bpe]'; using "
      'a trained one does not'
    ) from None
  return rustbpe
