"""What the in-graph twins of the tokenizers share.

A twin is a `tf.Module` that holds its tables and computes with core
TensorFlow operations alone, so a SavedModel carries it whole, and a server
without Python reads and writes the same tokens to the byte.

Shapes: B texts, T tokens, V vocabulary; C code points and P pieces of all
texts, end to end; `None` marks a ragged dimension.
"""

import abc
from collections.abc import Callable

import numpy as np
import tensorflow as tf

N_CODE_POINTS = 0x110000
REPLACEMENT = 0xFFFD
END = -1  # code point and kind of a text's end


def replace_invalid_utf8(text: tf.Tensor) -> tf.Tensor:  # string [B] -> [B]
  """What Python's `decode('utf-8', 'replace')` makes of each text."""
  return tf.strings.unicode_transcode(
    text, 'UTF-8', 'UTF-8', errors='replace', replacement_char=REPLACEMENT
  )


def check_utf8(text: tf.Tensor, field: str) -> None:  # string [B] ->
  """Fails with INVALID_ARGUMENT that names `field` and the first bad row."""
  valid = text == replace_invalid_utf8(text)
  row = tf.strings.as_string(first(tf.where(~valid)[:, 0]))
  message = tf.strings.join([field, ': invalid UTF-8 in row ', row])
  tf.debugging.Assert(tf.reduce_all(valid), [message])


def first(x: tf.Tensor) -> tf.Tensor:  # [N] -> [], 0 where N is 0
  return tf.concat([x, tf.zeros([1], x.dtype)], 0)[0]


def code_points(text: tf.Tensor) -> tf.RaggedTensor:
  """string [B] -> int32 [B, None], with U+FFFD for what is not UTF-8."""
  return tf.strings.unicode_decode(
    text, 'UTF-8', errors='replace', replacement_char=REPLACEMENT
  )


def shift(x: tf.Tensor, by: int, fill: int | bool) -> tf.Tensor:
  """`x[i - by]` at i, `fill` where there is none: [N] -> [N]."""
  pad = tf.fill([abs(by)], tf.cast(fill, x.dtype))
  if by > 0:
    return tf.concat([pad, x], 0)[:-by]
  return tf.concat([x, pad], 0)[-by:]


def row_ids(row_splits: tf.Tensor) -> tf.Tensor:  # [B + 1] -> [N]
  """Which row each value is in.

  `value_rowids` and `tf.repeat` make a dense [rows, longest row] on the way.
  """
  values = tf.range(row_splits[-1])
  return tf.searchsorted(
    row_splits[1:], values, side='right', out_type=row_splits.dtype
  )


def table(keys, values, default: int) -> tf.lookup.StaticHashTable:
  """From `keys` [N], string or int64, to `values` int32 [N]."""
  pairs = tf.lookup.KeyValueTensorInitializer(keys, values, None, tf.int32)
  return tf.lookup.StaticHashTable(pairs, default)


class Splitter(tf.Module):
  """Cuts texts into pieces as a regular expression would.

  Where a piece starts must follow from a few code points to either side. That
  is faster than RE2, and free of its idea of what a letter is.

  Args:
    kinds: int [0x110000], a number for each code point.
    starts: `(codes, kinds) -> bool`, all [C], whether a piece starts here. Each
      text has one more entry after its last, `END`, whose answer is unused.
  """

  def __init__(
    self,
    kinds: np.ndarray,
    starts: Callable[[tf.Tensor, tf.Tensor], tf.Tensor],
  ):
    super().__init__(name='splitter')
    changes = np.flatnonzero(np.diff(kinds, prepend=END))
    self.first_code = tf.constant(changes, tf.int32)
    self.kind = tf.constant(kinds[changes], tf.int32)
    self.starts = starts

  def __call__(self, text: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """string [B] -> string [P], the pieces; int64 [B], how many of each."""
    codes = code_points(text)
    rows = row_ids(codes.row_splits)
    n_codes = tf.size(rows, tf.int64)
    starts = tf.gather(self._starts(codes), tf.range(n_codes) + rows)
    splits = tf.concat([tf.where(starts)[:, 0], [n_codes]], 0)
    pieces = tf.RaggedTensor.from_row_splits(codes.flat_values, splits)
    n_pieces = tf.math.unsorted_segment_sum(
      tf.cast(starts, tf.int64), rows, codes.nrows()
    )
    return tf.strings.unicode_encode(pieces, 'UTF-8'), n_pieces

  def _starts(self, codes: tf.RaggedTensor) -> tf.Tensor:
    ends = tf.fill([codes.nrows(), 1], END)
    ended = tf.concat([codes, ends], 1).flat_values
    index = tf.searchsorted(self.first_code, ended, side='right') - 1
    kinds = tf.gather(self.kind, tf.maximum(index, 0))
    return self.starts(ended, tf.where(ended == END, END, kinds))


class InGraphTokenizer(tf.Module, abc.ABC):
  """Byte-exact twin of a Python tokenizer.

  It stays on the CPU: an accelerator would only add transfers.

  Args:
    tokens: the bytes of every token, by id.
  """

  def __init__(self, tokens: list[bytes]):
    super().__init__(name='tokenizer')
    self.tokens = tf.constant(tokens)  # string [V]

  def encode(self, text: tf.Tensor, field: str = 'text') -> tf.RaggedTensor:
    """Token ids of each text; what is not UTF-8 is read as U+FFFD.

    Text that holds an unseen character fails with INVALID_ARGUMENT that names
    `field` and the character, where the Python tokenizer refuses it too.

    Args:
      text: string [B].
      field: what errors call the text.

    Returns:
      int32 [B, None].
    """
    with tf.device('CPU'):
      return self._encode(text, field)

  @abc.abstractmethod
  def _encode(self, text: tf.Tensor, field: str) -> tf.RaggedTensor:
    """As `encode`."""

  def decode(self, ids: tf.Tensor, lengths: tf.Tensor) -> tf.Tensor:
    """The exact bytes of the first `lengths[b]` tokens of each row.

    Args:
      ids: int32 [B, T]; what lies beyond `lengths` is not looked at.
      lengths: int32 [B], 0 to T.

    Returns:
      string [B].
    """
    with tf.device('CPU'):
      kept = tf.RaggedTensor.from_tensor(ids, lengths)
      tokens = tf.gather(self.tokens, kept.flat_values)
      rows = row_ids(kept.row_splits)
      return tf.strings.unsorted_segment_join(tokens, rows, kept.nrows())
