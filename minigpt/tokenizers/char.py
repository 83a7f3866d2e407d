"""One token per character: the id is the character's rank in the vocabulary."""

from typing import TYPE_CHECKING, Any

import numpy as np

from minigpt.errors import InputError
from minigpt.tokenizers import base

if TYPE_CHECKING:
  from minigpt.tokenizers.in_graph_base import InGraphTokenizer


class CharTokenizer(base.Tokenizer):
  """Gives each distinct code point of some text an id, in code point order."""

  name = 'char'
  end_of_text = None

  def __init__(self, characters: str):
    """Makes a tokenizer of a vocabulary.

    Args:
      characters: strictly increasing, without surrogates.
    """
    self.characters = characters
    self.vocab_size = len(characters)
    self.tokens = [character.encode() for character in characters]
    codes = base.code_points(characters)
    # The last entry stands for every code point beyond the vocabulary.
    self._ids = np.full([int(codes[-1]) + 2], -1, np.int32)
    self._ids[codes] = np.arange(self.vocab_size)

  @classmethod
  def build(cls, text: str) -> 'CharTokenizer':
    """Makes a tokenizer of the characters of a text.

    Raises:
      InputError: the text is empty or holds a lone surrogate.
    """
    base.check_learnable(text)
    return cls(''.join(map(chr, np.unique(base.code_points(text)))))

  def encode(self, text: str) -> np.ndarray:  # -> int32 [T]
    """Returns the rank of each character.

    Raises:
      InputError: a character is not in the vocabulary.
    """
    ids = base.encode_in_chunks(self._encode, text)
    if ids.size and ids.min() < 0:
      self._refuse(text, int(np.argmin(ids)))
    return ids

  def _encode(self, text: str) -> np.ndarray:  # -> int32 [T], -1: unseen
    return self._ids[np.minimum(base.code_points(text), len(self._ids) - 1)]

  def _refuse(self, text: str, position: int) -> None:
    character = text[position]
    raise InputError(
      f'character {character!r} (U+{ord(character):04X}) at position '
      f'{position} is not among the {self.vocab_size} of the vocabulary: '
      'leave it out, or train on text that has it'
    )

  def in_graph(self) -> 'InGraphTokenizer':
    """Returns the same tokenizer as TensorFlow operations."""
    from minigpt.tokenizers.char_in_graph import CharInGraph  # TensorFlow.

    return CharInGraph(self.characters)

  def to_json(self) -> dict[str, Any]:
    """Returns the characters."""
    return {'kind': self.name, 'characters': self.characters}

  @classmethod
  def from_json(cls, fields: dict[str, Any]) -> 'CharTokenizer':
    """Makes the tokenizer that `to_json` has described.

    Raises:
      InputError: `characters` is not a sorted string without repeats.
    """
    base.check_fields(fields, 'characters')
    characters = fields['characters']
    if not isinstance(characters, str) or not characters:
      raise InputError("'characters' must be a string that is not empty")
    base.check_learnable(characters)
    if list(characters) != sorted(set(characters)):
      raise InputError("'characters' must be sorted and without repeats")
    return cls(characters)
