"""The base class of tokenizers in TensorFlow, and helpers that they share.

Each tokenizer is a `tf.Module` that holds its tables and uses only core
TensorFlow operations. So a SavedModel contains all of it, and a server without
Python encodes and decodes the same tokens, byte for byte.

Shapes: B texts, T tokens, V vocabulary; C code points and P pieces of all
texts, concatenated; `None` marks a ragged dimension.
"""

import abc
from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf

REPLACEMENT = 0xFFFD
END = -1  # Marks the end of each text, as a code point and as a kind.


def replace_invalid_utf8(text: tf.Tensor) -> tf.Tensor:  # string [B] -> [B]
  """Replaces invalid bytes as Python's `decode('utf-8', 'replace')` does."""
  return tf.strings.unicode_transcode(
    text, 'UTF-8', 'UTF-8', errors='replace', replacement_char=REPLACEMENT
  )


def check_utf8(text: tf.Tensor, field: str) -> None:  # string [B] ->
  """Asserts valid UTF-8; the error names `field` and the first bad row.

  Raises:
    tf.errors.InvalidArgumentError: a text is not UTF-8; raised at run time.
  """
  valid = text == replace_invalid_utf8(text)
  row = tf.strings.as_string(first(tf.where(~valid)[:, 0]))
  message = tf.strings.join([field, ': invalid UTF-8 in row ', row])
  tf.debugging.Assert(tf.reduce_all(valid), [message])


def first(x: tf.Tensor) -> tf.Tensor:  # [N] -> []
  """Returns the first element; zero or the empty string if there is none."""
  return tf.concat([x, tf.zeros([1], x.dtype)], 0)[0]


def code_points(text: tf.Tensor) -> tf.RaggedTensor:
  """Decodes UTF-8, U+FFFD where invalid: string [B] -> int32 [B, None]."""
  return tf.strings.unicode_decode(
    text, 'UTF-8', errors='replace', replacement_char=REPLACEMENT
  )


def shift(x: tf.Tensor, by: int, fill: int | bool) -> tf.Tensor:
  """Shifts by `by` places, so that y[i] = x[i - by]; pads with `fill`."""
  pad = tf.fill([abs(by)], tf.cast(fill, x.dtype))
  if by > 0:
    return tf.concat([pad, x], 0)[:-by]
  return tf.concat([x, pad], 0)[-by:]


def row_ids(row_splits: tf.Tensor) -> tf.Tensor:  # [B + 1] -> [N]
  """Returns the row of each value of a ragged tensor.

  `value_rowids` and `tf.repeat` do the same, but through a dense tensor [rows,
  longest row], which can be very large.
  """
  values = tf.range(row_splits[-1])
  return tf.searchsorted(
    row_splits[1:], values, side='right', out_type=row_splits.dtype
  )


def table(keys: Any, values: Any, default: int) -> tf.lookup.StaticHashTable:
  """Returns a table from `keys` [N], string or int64, to `values` int32 [N]."""
  pairs = tf.lookup.KeyValueTensorInitializer(keys, values, None, tf.int32)
  return tf.lookup.StaticHashTable(pairs, default)


class Splitter(tf.Module):
  """Splits texts into pieces as a regular expression would.

  A few code points on each side must decide whether a piece starts at a code
  point. This is faster than RE2, and independent of RE2's version of Unicode.
  """

  def __init__(
    self,
    kinds: np.ndarray,
    starts: Callable[[tf.Tensor, tf.Tensor], tf.Tensor],
  ):
    """Stores the kinds as a table of the code points at which they change.

    Args:
      kinds: int [0x110000], the kind of each code point.
      starts: `(codes, kinds) -> bool`, all [C]: whether a piece starts at each
        code point. Each text ends with an entry `END`, whose result is unused.
    """
    super().__init__(name='splitter')
    changes = np.flatnonzero(np.diff(kinds, prepend=END))
    self.first_code = tf.constant(changes, tf.int32)
    self.kind = tf.constant(kinds[changes], tf.int32)
    self.starts = starts

  def __call__(self, text: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Splits texts: string [B] -> pieces string [P], their counts int64 [B]."""
    codes = code_points(text)
    rows = row_ids(codes.row_splits)
    n_codes = tf.size(rows, tf.int64)
    # `_starts` has an additional entry, END, for each text before.
    starts = tf.gather(self._starts(codes), tf.range(n_codes) + rows)
    splits = tf.concat([tf.where(starts)[:, 0], [n_codes]], 0)
    pieces = tf.RaggedTensor.from_row_splits(codes.flat_values, splits)
    n_pieces = tf.math.unsorted_segment_sum(
      tf.cast(starts, tf.int64), rows, codes.nrows()
    )
    return tf.strings.unicode_encode(pieces, 'UTF-8'), n_pieces

  def _starts(self, codes: tf.RaggedTensor) -> tf.Tensor:
    """Returns whether a piece starts at each code point or END: bool."""
    ends = tf.fill([codes.nrows(), 1], END)
    ended = tf.concat([codes, ends], 1).flat_values
    index = tf.searchsorted(self.first_code, ended, side='right') - 1
    kinds = tf.gather(self.kind, tf.maximum(index, 0))
    return self.starts(ended, tf.where(ended == END, END, kinds))


class InGraphTokenizer(tf.Module, abc.ABC):
  """Encodes and decodes as a Python tokenizer does, byte for byte.

  It always runs on the CPU, as an accelerator would only add transfers.
  """

  def __init__(self, tokens: list[bytes]):
    """Keeps the bytes of every token, by id."""
    super().__init__(name='tokenizer')
    self.tokens = tf.constant(tokens)  # string [V]

  def encode(self, text: tf.Tensor, field: str = 'text') -> tf.RaggedTensor:
    """Returns the token ids of each text; invalid UTF-8 is read as U+FFFD.

    Args:
      text: string [B].
      field: names the text in error messages.

    Returns:
      int32 [B, None].

    Raises:
      tf.errors.InvalidArgumentError: the Python tokenizer would refuse the text
        too; names `field` and the first character that is not in the
        vocabulary. Raised at run time.
    """
    with tf.device('CPU'):
      return self._encode(text, field)

  @abc.abstractmethod
  def _encode(self, text: tf.Tensor, field: str) -> tf.RaggedTensor:
    """Implements `encode`."""

  def decode(self, ids: tf.Tensor, lengths: tf.Tensor) -> tf.Tensor:
    """Returns the exact bytes of the first `lengths[b]` tokens of each row.

    Args:
      ids: int32 [B, T]; entries beyond `lengths` are ignored.
      lengths: int32 [B], 0 to T.

    Returns:
      string [B].
    """
    with tf.device('CPU'):
      is_kept = tf.sequence_mask(lengths, tf.shape(ids)[1])
      tokens = tf.gather(self.tokens, tf.where(is_kept, ids, 0))
      return tf.strings.reduce_join(tf.where(is_kept, tokens, ''), 1)
