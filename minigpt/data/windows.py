"""Training windows of running text, and their order.

Nothing is shuffled in memory: window i of an epoch is the image of i under a
keyed permutation. So the batch of any step can be computed directly, and a
token file of any size is only read through its memory map.

Shapes: N tokens in all, T context.
"""

import zlib
from typing import Any, NamedTuple, Protocol

import numpy as np
import tensorflow as tf

from minigpt.data.token_shards import Tokens, TokenShards, checksum
from minigpt.errors import InputError, UsageError

_CHUNK = 1 << 24  # Tokens examined at a time.


class Examples(Protocol):
  """The examples of training batches: windows of text, or packed examples."""

  @property
  def n_examples(self) -> int:
    """Counts the examples of one epoch."""
    ...

  @property
  def n_tokens(self) -> int:
    """Counts the tokens of one epoch."""
    ...

  @property
  def stride(self) -> int:
    """Returns the distance between the starts of neighbouring examples."""
    ...

  def at(self, starts: np.ndarray) -> Any:  # int [..., A, B] -> [..., T + 1]
    """Returns the examples at `starts`, as an array or a tree of arrays."""
    ...


class Windows(NamedTuple):
  """All windows of T + 1 tokens whose start is a multiple of the stride."""

  tokens: Tokens  # [N], in memory or memory-mapped
  context_length: int
  stride: int

  @property
  def n_examples(self) -> int:
    """Counts the windows."""
    return (len(self.tokens) - self.context_length - 1) // self.stride + 1

  @property
  def n_tokens(self) -> int:
    """Counts the tokens of the text."""
    return len(self.tokens)

  def at(self, starts: np.ndarray) -> np.ndarray:  # [...] -> int32 [..., T + 1]
    """Reads the windows at `starts`."""
    offsets = np.arange(self.context_length + 1)
    return self.tokens[starts[..., None] + offsets].astype(np.int32)


def make_windows(
  tokens: Tokens, context_length: int, stride: int, vocab_size: int
) -> Windows:
  """Returns the windows of a text; a stride of 0 means `context_length`.

  Raises:
    UsageError: the text is shorter than one window.
    InputError: a token id is outside the vocabulary.
  """
  if len(tokens) <= context_length:
    raise UsageError(
      f'the training text has {len(tokens)} tokens, fewer than '
      f'context_length + 1 = {context_length + 1}: lower --context_length or '
      'give more text'
    )
  check_ids(tokens, vocab_size)
  return Windows(tokens, context_length, stride or context_length)


def check_ids(tokens: Tokens, vocab_size: int, chunk: int = _CHUNK) -> None:
  """Raises InputError for the first id outside [0, vocab_size)."""
  if isinstance(tokens, TokenShards) and tokens.n_ids <= vocab_size:
    return  # All ids were checked together with the shards.
  for start in range(0, len(tokens), chunk):
    part = tokens[start : start + chunk]
    wrong = np.flatnonzero((part < 0) | (part >= vocab_size))
    if len(wrong):
      raise InputError(
        f'token id {part[wrong[0]]} at position {start + wrong[0]} is outside '
        f'the vocabulary of {vocab_size}; was it made by another tokenizer?'
      )


class Fingerprint(NamedTuple):
  """Identifies a text by its length and checksum."""

  n_tokens: int
  crc32: int


def fingerprint(*parts: Tokens, chunk: int = _CHUNK) -> Fingerprint:
  """Computes the fingerprint of successive arrays [N], in bounded memory."""
  crc = 0
  for tokens in parts:
    if isinstance(tokens, TokenShards):
      crc = zlib.crc32(str(tokens.crc32).encode(), crc)
    else:
      crc = checksum(tokens, crc, chunk)
  return Fingerprint(sum(map(len, parts)), crc)


def window_order(
  windows: Examples, places: np.ndarray, seed: int
) -> np.ndarray:  # int64 [...] -> int64 [...]
  """Returns the starts of windows by their positions in a shuffled stream.

  The stream is endless: each epoch is another permutation of all windows.

  Args:
    windows: the windows to shuffle.
    places: positions in the stream, counted from 0 over all epochs.
    seed: of the run.
  """
  n = windows.n_examples
  epoch, place = np.divmod(places.reshape(-1), n)
  keys = _epoch_keys(seed, epoch)
  # The kernel computes the width of its cipher from the highest index. If that
  # is 2^16, 2^18, ..., a bit is missing, and two places get the same image.
  # Permuting one more index avoids that; a place whose image is this index is
  # permuted again, which gives a permutation of the rest.
  n_bits = (n - 1).bit_length() - 1
  lacks_a_bit = n_bits >= 16 and n_bits % 2 == 0 and n - 1 == 1 << n_bits
  index = _permute(place, keys, n + lacks_a_bit)
  if lacks_a_bit and (index == n).any():
    index = np.where(index == n, _permute(index, keys, n + 1), index)
  return index.reshape(places.shape) * windows.stride


def _permute(index: np.ndarray, keys: np.ndarray, n: int) -> np.ndarray:
  """Returns the images of indices under keyed permutations of 0 to n - 1.

  Args:
    index: int64 [m].
    keys: int64 [m, 3], the key of each index.
    n: how many numbers are permuted.
  """
  # The kernel of tf.random.experimental.index_shuffle, which does not accept a
  # key for each index.
  return tf.raw_ops.RandomIndexShuffle(
    index=index, seed=keys, max_index=np.int64(n - 1), rounds=8
  ).numpy()


def _epoch_keys(seed: int, epochs: np.ndarray) -> np.ndarray:
  """Hashes seed and epoch, as similar keys would give similar orders.

  Args:
    seed: of the run.
    epochs: int64 [n].

  Returns:
    int64 [n, 3].
  """
  distinct, places = np.unique(epochs, return_inverse=True)
  keys = [np.random.SeedSequence([seed, e]).generate_state(3) for e in distinct]
  return np.array(keys, np.int64)[places]
