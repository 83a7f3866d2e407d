"""One token per word, as TensorFlow operations."""

import re

import numpy as np
import tensorflow as tf

from minigpt.tokenizers import in_graph_base
from minigpt.tokenizers.in_graph_base import shift

_OTHER, _LETTER, _APOSTROPHE = range(3)  # kinds of code points


class WordInGraph(in_graph_base.InGraphTokenizer):
  """Byte-exact twin of `WordTokenizer`.

  Args:
    letters: what words are made of, as in a regular expression's `[...]`.
    apostrophes: what they may hold one at a time.
  """

  def __init__(self, tokens: list[bytes], letters: str, apostrophes: str):
    super().__init__(tokens)
    self.split = in_graph_base.Splitter(
      _kinds(letters, apostrophes), _piece_starts
    )
    self.ids = in_graph_base.table(
      self.tokens[:-2], tf.range(len(tokens) - 2), len(tokens) - 2
    )

  def _encode(self, text: tf.Tensor, field: str) -> tf.RaggedTensor:
    del field  # no text is refused
    pieces, n_pieces = self.split(text)
    return tf.RaggedTensor.from_row_lengths(self.ids.lookup(pieces), n_pieces)


def _kinds(letters: str, apostrophes: str) -> np.ndarray:  # -> int [0x110000]
  kinds = np.full([in_graph_base.N_CODE_POINTS], _OTHER)
  kinds[list(map(ord, apostrophes))] = _APOSTROPHE
  every = ''.join(map(chr, range(in_graph_base.N_CODE_POINTS)))
  for run in re.finditer(f'[{letters}]+', every):
    kinds[run.start() : run.end()] = _LETTER
  return kinds


def _piece_starts(codes: tf.Tensor, kinds: tf.Tensor) -> tf.Tensor:
  """Where `word.PIECE` starts a match: int32 [C], int32 [C] -> bool [C]."""
  letter = kinds == _LETTER
  behind_letter = shift(letter, 1, False)
  joint = (kinds == _APOSTROPHE) & behind_letter & shift(letter, -1, False)
  return ~(joint | (letter & (behind_letter | shift(joint, 1, False))))
