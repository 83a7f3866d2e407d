"""GPT-2's byte pair encoding as core TensorFlow operations.

tiktoken splits text with a regular expression, then merges bytes within each
piece. This module does both for a whole batch at once: it compares each code
point with its neighbours to find the pieces, and merges in rounds, each of
which makes all merges that no other merge can prevent.

Shapes: B texts, C code points, P pieces, U distinct pieces; M tokens of the
pieces being merged, concatenated; `None` marks a ragged dimension.
"""

import functools
from collections.abc import Collection, Mapping, Sequence

import numpy as np
import tensorflow as tf

from minigpt.tokenizers import base, in_graph_base
from minigpt.tokenizers.byte_pairs import (
  LONGEST_TOKEN,
  MAX_VOCAB_SIZE,
  OTHER,
  SPACE,
)
from minigpt.tokenizers.in_graph_base import END, shift

_NEVER = tf.int32.max  # rank of a pair that does not merge


class BPEInGraph(in_graph_base.InGraphTokenizer):
  """Encodes and decodes as tiktoken does, byte for byte."""

  def __init__(
    self,
    tokens: list[bytes],
    kinds: np.ndarray,
    special: Collection[int],
    read: Mapping[str, int] | None = None,
  ):
    """Makes the tables.

    Args:
      tokens: bytes by id; an id is also the rank of the merge that makes the
        token.
      kinds: int [0x110000], one of the kinds of `byte_pairs` for each code
        point.
      special: ids of special tokens, which no merge makes.
      read: the special tokens to recognize in text, with their ids; no two can
        overlap.
    """
    super().__init__(tokens)
    ranks = {t: rank for rank, t in enumerate(tokens) if rank not in special}
    assert len(tokens) <= MAX_VOCAB_SIZE
    assert max(map(len, ranks)) <= LONGEST_TOKEN
    read = read or {}
    starts = functools.partial(starts_with_special, tuple(read))
    self.split = in_graph_base.Splitter(kinds, starts if read else piece_starts)
    self.byte_ids = tf.constant([ranks[bytes([b])] for b in range(256)])
    # The split isolates special tokens, so one is always a whole piece.
    whole = ranks | {name.encode(): i for name, i in read.items()}
    self.token_ids = in_graph_base.table(
      list(whole), list(whole.values()), default=-1
    )
    # A vocabulary of bytes alone has no merges, but a table must not be empty;
    # no pair has the key -1.
    merges = np.array(_merges(ranks) or [(-1, _NEVER)], np.int64)
    self.merges = in_graph_base.table(
      merges[:, 0], merges[:, 1].astype(np.int32), default=_NEVER
    )

  def _encode(self, text: tf.Tensor, field: str) -> tf.RaggedTensor:
    del field  # No text is refused.
    pieces, n_pieces = self.split(text)
    distinct, which = tf.unique(pieces)
    ids = tf.gather(self._encode_pieces(distinct), which)  # [P, None]
    return tf.RaggedTensor.from_row_lengths(ids, n_pieces).merge_dims(1, 2)

  def _encode_pieces(self, pieces: tf.Tensor) -> tf.RaggedTensor:
    """Encodes pieces: string [U] -> int32 [U, None].

    Most pieces are one token, which a table finds; the others are merged.
    """
    found = self.token_ids.lookup(pieces)
    rest = found < 0
    merged = self._merge(tf.boolean_mask(pieces, rest))
    # Rows of `found`, then of `merged`; each piece takes its row from either.
    rows = tf.concat([found[:, None], merged], 0)
    n_pieces, n_rest = tf.size(found), tf.cumsum(tf.cast(rest, tf.int32))
    row = tf.where(rest, n_pieces + n_rest - 1, tf.range(n_pieces))
    return tf.gather(rows, row).with_row_splits_dtype(tf.int64)

  def _merge(self, pieces: tf.Tensor) -> tf.RaggedTensor:
    """Merges the bytes of each piece: string [U] -> int32 [U, None]."""
    values = tf.io.decode_raw(tf.strings.reduce_join(pieces), tf.uint8)
    ids = tf.gather(self.byte_ids, tf.cast(values, tf.int32))
    ends = tf.cumsum(tf.strings.length(pieces))
    owner = in_graph_base.row_ids(tf.concat([[0], ends], 0))
    flat = tf.TensorShape([None])
    _, ids, owner = tf.while_loop(
      lambda more, ids, owner: more,
      lambda more, ids, owner: self._merge_round(ids, owner),
      (tf.size(ids) > 0, ids, owner),
      (tf.TensorShape([]), flat, flat),
    )
    return tf.RaggedTensor.from_value_rowids(ids, owner, tf.size(pieces))

  def _merge_round(
    self, ids: tf.Tensor, owner: tf.Tensor
  ) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """Makes all merges that no other merge can prevent.

    Args:
      ids: int32 [M], the tokens of all pieces.
      owner: int32 [M], the piece that each token belongs to.

    Returns:
      Whether any pair merged; ids and owners of the remaining tokens.
    """
    rank = tf.where(
      owner == shift(owner, -1, -1),
      self.merges.lookup(_key(ids, shift(ids, -1, 0))),
      _NEVER,
    )
    merges = merging_pairs(rank, owner)
    # The rank of a merge is the id of the token that it makes.
    ids = tf.where(merges, rank, ids)
    kept = tf.where(~shift(merges, 1, False))[:, 0]
    return tf.reduce_any(merges), tf.gather(ids, kept), tf.gather(owner, kept)


def piece_starts(codes: tf.Tensor, kinds: tf.Tensor) -> tf.Tensor:
  r"""Marks the code points at which GPT-2's expression starts a piece.

  The expression, from GPT-2's encoder.py (https://github.com/openai/gpt-2):

    '(?:[sdmt]|ll|ve|re)| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+

  Args:
    codes: int32 [C], the code points, with `END` after each text.
    kinds: int32 [C], their kinds, with `END` likewise.

  Returns:
    bool [C].
  """
  before, after = shift(kinds, 1, END), shift(kinds, -1, END)
  # The last white space before a visible character is split from the rest: a
  # blank joins the visible characters, any other is a piece of its own.
  joins_blank = shift(codes, 1, END) == ord(' ')
  starts = tf.where(
    kinds == SPACE,
    (before != SPACE) | ((after != SPACE) & (after != END)),
    (before != kinds) & ~joins_blank,
  )
  # A contraction needs an apostrophe that starts a piece.
  apostrophe = (codes == ord("'")) & (before != OTHER) & ~joins_blank
  short, long = (apostrophe & follows for follows in _contractions(codes))
  within = shift(short | long, 1, False)
  behind = shift(short, 2, False) | shift(long, 3, False)
  return (starts & ~within) | behind


def starts_with_special(
  special: Sequence[str], codes: tf.Tensor, kinds: tf.Tensor
) -> tf.Tensor:
  """Marks where pieces start if special tokens are pieces of their own.

  The text before a special token, and that after it, are split separately.

  Args:
    special: the tokens; no two of them can overlap.
    codes: int32 [C], as for `piece_starts`.
    kinds: int32 [C], likewise.

  Returns:
    bool [C].
  """
  first = within = tf.zeros_like(codes, tf.bool)
  for token in special:
    points = base.code_points(token).tolist()
    here = tf.reduce_all(
      [shift(codes, -i, END) == point for i, point in enumerate(points)], 0
    )
    first |= here
    for i in range(1, len(points)):
      within |= shift(here, i, False)
  hidden = first | within
  starts = piece_starts(
    tf.where(hidden, END, codes), tf.where(hidden, END, kinds)
  )
  return tf.where(hidden, first, starts)


def _contractions(codes: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
  """Marks where s, d, m or t comes next, and where ll, ve or re: bool [C]."""
  one, two = shift(codes, -1, END), shift(codes, -2, END)
  short = tf.reduce_any([one == ord(letter) for letter in 'sdmt'], 0)
  long = [(one == ord(a)) & (two == ord(b)) for a, b in ('ll', 've', 're')]
  return short, tf.reduce_any(long, 0)


def merging_pairs(rank: tf.Tensor, owner: tf.Tensor) -> tf.Tensor:
  """Marks the pairs that merge in this round.

  Byte pair encoding (Sennrich et al. 2016) merges the pair of lowest rank, the
  leftmost first, until none is left. So all pairs with a piece's lowest rank
  can merge at once. In a long piece, so can every pair with the lowest rank
  among its neighbours. For a merge only makes pairs of higher rank possible: a
  distant merge could take a token from this pair only through a chain of merges
  that grows into one token that reaches here, and no token is longer than 128
  bytes.

  Args:
    rank: int32 [M], of each token and the next; `_NEVER` at a piece's end.
    owner: int32 [M], the piece that each token belongs to.

  Returns:
    bool [M].
  """
  piece = tf.math.unsorted_segment_min(rank, owner, tf.reduce_max(owner) + 1)
  lowest = (rank == tf.gather(piece, owner)) | (rank == _nearby_min(rank))
  lowest &= rank != _NEVER
  # Of overlapping pairs, as in a a a a, every other one merges.
  first = rank != shift(rank, 1, -1)
  run = tf.cumsum(tf.cast(first, tf.int32)) - 1
  start = tf.gather(tf.where(first)[:, 0], run)
  even = (tf.range(tf.size(start, tf.int64)) - start) % 2 == 0
  return lowest & even & tf.gather(lowest, start)


def _nearby_min(rank: tf.Tensor) -> tf.Tensor:
  """Returns the lowest rank within at least 128 pairs on each side: [M].

  It is the minimum over a block of 128 pairs and the two blocks beside it.
  """
  n = tf.size(rank)
  padded = tf.pad(rank, [[0, -n % LONGEST_TOKEN]], constant_values=_NEVER)
  low = tf.reduce_min(tf.reshape(padded, [-1, LONGEST_TOKEN]), 1)
  left, right = shift(low, 1, _NEVER), shift(low, -1, _NEVER)
  low = tf.minimum(low, tf.minimum(left, right))
  return tf.repeat(low, LONGEST_TOKEN)[:n]


def _key(left: tf.Tensor, right: tf.Tensor) -> tf.Tensor:
  """Returns the key of a pair of ids in the table of merges: int64."""
  return tf.cast(left, tf.int64) * MAX_VOCAB_SIZE + tf.cast(right, tf.int64)


def _merges(ranks: dict[bytes, int]) -> list[tuple[int, int]]:
  """Returns key and rank of all pairs of tokens that make a later token.

  Some of these pairs never occur while merging, and do no harm.
  """
  return [
    (ranks[token[:cut]] * MAX_VOCAB_SIZE + ranks[token[cut:]], rank)
    for token, rank in ranks.items()
    for cut in range(1, len(token))
    if ranks.get(token[:cut], rank) < rank
    and ranks.get(token[cut:], rank) < rank
  ]
