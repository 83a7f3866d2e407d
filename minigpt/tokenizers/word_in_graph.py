"""One token per word, as TensorFlow operations."""

import re

import numpy as np
import tensorflow as tf

from minigpt.tokenizers import base, in_graph_base
from minigpt.tokenizers.in_graph_base import shift

_OTHER, _LETTER, _APOSTROPHE = range(3)  # kinds of code points


class WordInGraph(in_graph_base.InGraphTokenizer):
  """Encodes and decodes as `WordTokenizer` does, byte for byte."""

  def __init__(self, tokens: list[bytes], letters: str, apostrophes: str):
    """Makes the tables.

    Args:
      tokens: bytes by id; the last two are UNKNOWN and END_OF_TEXT of `word`.
      letters: the characters of words, as in a regular expression's `[...]`.
      apostrophes: characters that words may contain between two letters.
    """
    super().__init__(tokens)
    self.split = in_graph_base.Splitter(
      _kinds(letters, apostrophes), _piece_starts
    )
    self.ids = in_graph_base.table(
      self.tokens[:-2], tf.range(len(tokens) - 2), len(tokens) - 2
    )

  def _encode(self, text: tf.Tensor, field: str) -> tf.RaggedTensor:
    del field  # No text is refused.
    pieces, n_pieces = self.split(text)
    return tf.RaggedTensor.from_row_lengths(self.ids.lookup(pieces), n_pieces)


def _kinds(letters: str, apostrophes: str) -> np.ndarray:  # -> int [0x110000]
  """Returns the kind of every code point."""
  kinds = np.full([base.N_CODE_POINTS], _OTHER)
  kinds[list(map(ord, apostrophes))] = _APOSTROPHE
  every = ''.join(map(chr, range(base.N_CODE_POINTS)))
  for run in re.finditer(f'[{letters}]+', every):
    kinds[run.start() : run.end()] = _LETTER
  return kinds


def _piece_starts(codes: tf.Tensor, kinds: tf.Tensor) -> tf.Tensor:
  """Returns where `word.PIECE` starts a match: two int32 [C] -> bool [C]."""
  letter = kinds == _LETTER
  behind_letter = shift(letter, 1, False)
  # An apostrophe between two letters joins them into one word.
  joint = (kinds == _APOSTROPHE) & behind_letter & shift(letter, -1, False)
  return ~(joint | (letter & (behind_letter | shift(joint, 1, False))))
