"""One token per word and per punctuation mark or white space character.

White space is kept, so decoding returns the exact text if every word is in the
vocabulary.
"""

import re
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import numpy as np

from minigpt.errors import InputError
from minigpt.tokenizers import base
from minigpt.tokenizers.cuts import BEFORE_BLANKS, chunks

if TYPE_CHECKING:
  from minigpt.tokenizers.in_graph_base import InGraphTokenizer

UNKNOWN = '<|unk|>'
END_OF_TEXT = '<|eos|>'

# The characters of words: letters, digits and marks, and all other code points
# that are not ASCII, white space, punctuation, symbols or emoji. They are
# listed, as `\w` differs between Python and RE2, and between Unicode versions.
_LETTERS = (
  '0-9A-Z_a-z\u00aa\u00b5\u00ba\u00c0-\u00d6\u00d8-\u00f6\u00f8-\u167f'
  '\u1681-\u1fff\u200c\u200d\u2c00-\u2dff\u2e80-\u2fff\u3005-\u3007'
  '\u3021-\u302f\u3031-\ud7ff\ue000-\ufdff\ufe20-\ufe2f\ufe70-\ufefe'
  '\uff10-\uff19\uff21-\uff3a\uff41-\uff5a\uff66-\uffdc'
  '\U00010000-\U0001efff\U00020000-\U0010ffff'
)
# A word may contain apostrophes: don't. Any other character is a token of its
# own.
_APOSTROPHES = "'\u2019"
PIECE = f'[{_LETTERS}]+(?:[{_APOSTROPHES}][{_LETTERS}]+)*|[^{_LETTERS}]'
_PIECE = re.compile(PIECE)
# A text can be cut before each character that occurs in no word, as such a
# character is a piece of its own.
_IN_WORDS = _LETTERS + _APOSTROPHES
_BEFORE_MARKS = re.compile(f'[^\r](?=[^{_IN_WORDS}])|\r(?=[^\n{_IN_WORDS}])')


class WordTokenizer(base.Tokenizer):
  """Gives each distinct piece of a text an id; others become `<|unk|>`."""

  name = 'word'
  cuts = (*BEFORE_BLANKS, _BEFORE_MARKS)
  unknown: int

  def __init__(self, words: list[str]):
    """Makes a tokenizer of a vocabulary.

    Args:
      words: distinct, each one match of `PIECE`, then `UNKNOWN`, `END_OF_TEXT`.
    """
    self.words = words
    self.vocab_size = len(words)
    self.tokens = [word.encode() for word in words]
    self.unknown = self.vocab_size - 2
    self.end_of_text = self.vocab_size - 1
    # Text that spells <|eos|> is split into several pieces, so it is never
    # encoded as the token.
    self._ids = {word: i for i, word in enumerate(words)}

  @classmethod
  def build(cls, parts: Iterable[str]) -> 'WordTokenizer':
    """Makes a tokenizer of the pieces of a text.

    Args:
      parts: the text, in parts that no piece spans.

    Raises:
      InputError: the text is empty or contains a lone surrogate.
    """
    words: set[str] = set()
    for part in base.learnable(parts):
      for chunk in chunks(part, cls.cuts):
        words.update(_PIECE.findall(chunk))
    return cls([*sorted(words), UNKNOWN, END_OF_TEXT])

  def encode(self, text: str) -> np.ndarray:  # -> int32 [T]
    """Returns the ids of the pieces; every text has some."""
    return base.encode_in_chunks(self._encode, text, self.cuts)

  def _encode(self, text: str) -> list[int]:
    pieces: list[str] = _PIECE.findall(text)
    return [self._ids.get(piece, self.unknown) for piece in pieces]

  def token_sizes(self, text: str) -> np.ndarray:  # -> int32 [T]
    """Returns the number of bytes of each piece, unknown ones too."""

    def sizes(chunk: str) -> list[int]:
      return [len(piece.encode()) for piece in _PIECE.findall(chunk)]

    return base.encode_in_chunks(sizes, text, self.cuts)

  def in_graph(self) -> 'InGraphTokenizer':
    """Returns the same tokenizer as TensorFlow operations."""
    from minigpt.tokenizers.word_in_graph import WordInGraph  # TensorFlow.

    return WordInGraph(self.tokens, _LETTERS, _APOSTROPHES)

  def to_json(self) -> dict[str, Any]:
    """Returns the kind and the words, as fields of tokenizer.json."""
    return {'kind': self.name, 'words': self.words}

  @classmethod
  def from_json(cls, fields: dict[str, Any]) -> 'WordTokenizer':
    """Rebuilds the tokenizer that `to_json` described.

    Raises:
      InputError: `words` is not a list of distinct pieces with the two special
        tokens at its end.
    """
    base.check_fields(fields, 'words')
    words = fields['words']
    if not isinstance(words, list) or words[-2:] != [UNKNOWN, END_OF_TEXT]:
      raise InputError(
        f"'words' must be a list that ends with {UNKNOWN!r}, {END_OF_TEXT!r}"
      )
    if len(words) == 2:
      raise InputError("'words' must hold at least one word")
    _check_words(words[:-2])
    return cls(words)


def _check_words(words: list[Any]) -> None:
  seen: set[str] = set()
  for i, word in enumerate(words):
    if not isinstance(word, str) or not _PIECE.fullmatch(word):
      raise InputError(f"'words' entry {i} is not one word: {word!r:.60}")
    base.check_learnable(word)
    if word in seen:
      raise InputError(f"'words' entry {i} comes twice: {word!r:.60}")
    seen.add(word)
