"""One token per character, as TensorFlow operations."""

import tensorflow as tf

from minigpt.tokenizers import in_graph_base


class CharInGraph(in_graph_base.InGraphTokenizer):
  """Encodes and decodes as `CharTokenizer` does, byte for byte."""

  def __init__(self, characters: str, unknown: int | None = None):
    """Makes the tables.

    Args:
      characters: the vocabulary, in the order of `CharTokenizer`.
      unknown: the id of all other characters; None refuses them.
    """
    super().__init__([character.encode() for character in characters])
    self.unknown = unknown
    self.codes = tf.constant([ord(character) for character in characters])

  def _encode(self, text: tf.Tensor, field: str) -> tf.RaggedTensor:
    codes = in_graph_base.code_points(text)
    ids = tf.searchsorted(self.codes, codes.flat_values)
    # `searchsorted` returns V for code points above the vocabulary's highest.
    ids = tf.minimum(ids, tf.size(self.codes) - 1)
    known = tf.gather(self.codes, ids) == codes.flat_values
    if self.unknown is not None:
      return codes.with_flat_values(tf.where(known, ids, self.unknown))
    unseen = in_graph_base.first(
      tf.gather(codes.flat_values, tf.where(~known)[:, 0])
    )
    message = tf.strings.join(
      [field, ': character ', _describe(unseen), ' is not in the vocabulary']
    )
    tf.debugging.Assert(tf.reduce_all(known), [message])
    return codes.with_flat_values(ids)


def _describe(code: tf.Tensor) -> tf.Tensor:
  """Formats a code point: int32 [] -> string [], as in A (U+0041)."""
  nibbles = tf.bitwise.right_shift(code, [20, 16, 12, 8, 4, 0]) & 15
  digits = tf.strings.reduce_join(tf.gather(list('0123456789ABCDEF'), nibbles))
  character = tf.strings.unicode_encode(code[None], 'UTF-8')
  # Removes up to two leading zeros: four to six digits remain.
  name = tf.strings.regex_replace(digits, '^00?', '')
  return tf.strings.join([character, ' (U+', name, ')'])
