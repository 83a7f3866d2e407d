"""GPT-2's byte pair encoding as core TensorFlow operations.

tiktoken cuts text with a regular expression, then merges bytes within each
piece. Here both happen to all texts at once: the expression becomes a
comparison of each code point with its neighbours, and merging becomes rounds
in which all merges happen that no other merge can overtake.

Shapes: B texts, C code points, P pieces, U distinct pieces; M tokens of the
pieces being merged, end to end; `None` marks a ragged dimension.
"""

import numpy as np
import tensorflow as tf

from minigpt.tokenizers import in_graph_base
from minigpt.tokenizers.in_graph_base import END, shift

OTHER, LETTER, NUMBER, SPACE = range(4)  # kinds of code points

_NEVER = tf.int32.max  # rank of a pair that does not merge
_LONGEST = 128  # bytes in the longest token
_KEY_BASE = 2**16  # more than any id


class BPEInGraph(in_graph_base.InGraphTokenizer):
  """Byte-exact twin of tiktoken's GPT-2.

  Args:
    tokens: bytes by id; an id is also the rank of the merge that makes the
      token. The last one is special: text never becomes it.
    kinds: int [0x110000], one of the kinds above for each code point.
  """

  def __init__(self, tokens: list[bytes], kinds: np.ndarray):
    super().__init__(tokens)
    assert len(tokens) <= _KEY_BASE and max(map(len, tokens)) <= _LONGEST
    ranks = {token: rank for rank, token in enumerate(tokens[:-1])}
    self.split = in_graph_base.Splitter(kinds, piece_starts)
    self.byte_ids = tf.constant([ranks[bytes([b])] for b in range(256)])
    self.whole = in_graph_base.table(
      list(ranks), list(ranks.values()), default=-1
    )
    keys, values = zip(*_merges(ranks), strict=True)
    self.merges = in_graph_base.table(np.array(keys), values, default=_NEVER)

  def _encode(self, text: tf.Tensor, field: str) -> tf.RaggedTensor:
    del field  # no text is refused
    pieces, n_pieces = self.split(text)
    distinct, which = tf.unique(pieces)
    ids = tf.gather(self._encode_pieces(distinct), which)  # [P, None]
    return tf.RaggedTensor.from_row_lengths(ids, n_pieces).merge_dims(1, 2)

  def _encode_pieces(self, pieces: tf.Tensor) -> tf.RaggedTensor:
    """string [U] -> int32 [U, None]; most are one token, others are merged."""
    whole = self.whole.lookup(pieces)
    rest = whole < 0
    merged = self._merge(tf.boolean_mask(pieces, rest))
    rows = tf.concat([whole[:, None], merged], 0)
    n_pieces, n_rest = tf.size(whole), tf.cumsum(tf.cast(rest, tf.int32))
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
    """Does the merges that no other can overtake.

    Args:
      ids: int32 [M], the tokens of all pieces.
      owner: int32 [M], which piece each token is in.

    Returns:
      whether any pair merged; ids and owner of the tokens that are left.
    """
    rank = tf.where(
      owner == shift(owner, -1, -1),
      self.merges.lookup(_key(ids, shift(ids, -1, 0))),
      _NEVER,
    )
    merges = merging_pairs(rank, owner)
    ids = tf.where(merges, rank, ids)
    kept = tf.where(~shift(merges, 1, False))[:, 0]
    return tf.reduce_any(merges), tf.gather(ids, kept), tf.gather(owner, kept)


def piece_starts(codes: tf.Tensor, kinds: tf.Tensor) -> tf.Tensor:
  r"""Where GPT-2's expression starts a piece: int32 [C], [C] -> bool [C].

  '(?:[sdmt]|ll|ve|re)| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+
  """
  before, after = shift(kinds, 1, END), shift(kinds, -1, END)
  # The last white space before something visible is set apart from the rest:
  # a blank joins what follows, any other is a piece by itself.
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


def _contractions(codes: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
  """Whether s, d, m or t, and whether ll, ve or re come next: two bool [C]."""
  one, two = shift(codes, -1, END), shift(codes, -2, END)
  short = tf.reduce_any([one == ord(letter) for letter in 'sdmt'], 0)
  long = [(one == ord(a)) & (two == ord(b)) for a, b in ('ll', 've', 're')]
  return short, tf.reduce_any(long, 0)


def merging_pairs(rank: tf.Tensor, owner: tf.Tensor) -> tf.Tensor:
  """Which pairs merge in this round.

  Byte pair encoding merges the pair of lowest rank, leftmost first, until
  none is left, so all pairs of a piece's lowest rank can merge together. In
  long pieces those lowest nearby merge with them: what a merge makes possible
  has a higher rank than the merge itself, so a pair can lose a token to
  another only through a chain of merges of lower rank that grows up to it as
  one token, and no token is longer than 128 bytes.

  Args:
    rank: int32 [M], of each token and the next; `_NEVER` at a piece's end.
    owner: int32 [M], which piece each token is in.

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
  """Lowest rank in a window that reaches at least 128 pairs to each side."""
  n = tf.size(rank)
  padded = tf.pad(rank, [[0, -n % _LONGEST]], constant_values=_NEVER)
  low = tf.reduce_min(tf.reshape(padded, [-1, _LONGEST]), 1)
  left, right = shift(low, 1, _NEVER), shift(low, -1, _NEVER)
  low = tf.minimum(low, tf.minimum(left, right))
  return tf.repeat(low, _LONGEST)[:n]


def _key(left: tf.Tensor, right: tf.Tensor) -> tf.Tensor:
  return tf.cast(left, tf.int64) * _KEY_BASE + tf.cast(right, tf.int64)


def _merges(ranks: dict[bytes, int]) -> list[tuple[int, int]]:
  """Key and rank of all pairs of tokens that make a later token.

  Among them are pairs that merging never meets; they do no harm.
  """
  return [
    (ranks[token[:cut]] * _KEY_BASE + ranks[token[cut:]], rank)
    for token, rank in ranks.items()
    for cut in range(1, len(token))
    if ranks.get(token[:cut], rank) < rank
    and ranks.get(token[cut:], rank) < rank
  ]
