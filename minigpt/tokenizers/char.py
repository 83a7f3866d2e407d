"""One token per character: the id is the character's rank in the vocabulary."""

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import numpy as np

from minigpt.errors import InputError
from minigpt.tokenizers import base
from minigpt.tokenizers.cuts import ANYWHERE

if TYPE_CHECKING:
  from minigpt.tokenizers.in_graph_base import InGraphTokenizer


UNKNOWN = '\ufffd'
# The first code points that take two, three and four bytes of UTF-8.
_LONGER = (0x80, 0x800, 0x10000)


class CharTokenizer(base.Tokenizer):
  """Gives each distinct code point of a text an id, in code point order.

  With `knows_unknown`, all other code points get the id of U+FFFD.
  """

  name = 'char'
  cuts = ANYWHERE
  end_of_text = None

  def __init__(self, characters: str, knows_unknown: bool = False):
    """Makes a tokenizer of a vocabulary.

    Args:
      characters: strictly increasing, without surrogates.
      knows_unknown: whether U+FFFD, one of `characters`, stands for all others.
    """
    self.characters = characters
    self.unknown = characters.index(UNKNOWN) if knows_unknown else None
    self.vocab_size = len(characters)
    self.tokens = [character.encode() for character in characters]
    codes = base.code_points(characters)
    # The last entry serves all code points above the vocabulary's highest.
    other = -1 if self.unknown is None else self.unknown
    self._ids = np.full([int(codes[-1]) + 2], other, np.int32)
    self._ids[codes] = np.arange(self.vocab_size)

  @classmethod
  def build(
    cls, parts: Iterable[str], knows_unknown: bool = False
  ) -> 'CharTokenizer':
    """Makes a tokenizer of the characters of a text, in constant memory.

    Args:
      parts: the text, in parts.
      knows_unknown: whether to add U+FFFD, which stands for all others.

    Raises:
      InputError: the text is empty or contains a lone surrogate.
    """
    seen = np.zeros([base.N_CODE_POINTS], np.bool_)
    for part in base.learnable(parts):
      seen[base.code_points(part)] = True
    seen[ord(UNKNOWN)] |= knows_unknown
    return cls(''.join(map(chr, np.flatnonzero(seen))), knows_unknown)

  def encode(self, text: str) -> np.ndarray:  # -> int32 [T]
    """Returns the rank of each character.

    Raises:
      InputError: a character is not in the vocabulary.
    """
    ids = base.encode_in_chunks(self._encode, text, self.cuts)
    if ids.size and ids.min() < 0:
      self._refuse(text, int(np.argmin(ids)))
    return ids

  def _encode(self, text: str) -> np.ndarray:  # -> int32 [T], -1: unseen
    return self._ids[np.minimum(base.code_points(text), len(self._ids) - 1)]

  def token_sizes(self, text: str) -> np.ndarray:  # -> int32 [T]
    """Returns the number of bytes of each character, unknown ones too."""
    codes = base.code_points(text)
    sizes = np.ones_like(codes, np.int32)
    for least in _LONGER:
      sizes += codes >= least
    return sizes

  def _refuse(self, text: str, position: int) -> None:
    character = text[position]
    raise InputError(
      f'character {character!r} (U+{ord(character):04X}) at position '
      f'{position} is not among the {self.vocab_size} of the vocabulary: '
      'leave it out, or train on text that has it, or with --unknown_character'
    )

  def in_graph(self) -> 'InGraphTokenizer':
    """Returns the same tokenizer as TensorFlow operations."""
    from minigpt.tokenizers.char_in_graph import CharInGraph  # TensorFlow.

    return CharInGraph(self.characters, self.unknown)

  def to_json(self) -> dict[str, Any]:
    """Returns the kind and the characters, as fields of tokenizer.json."""
    fields = {'kind': self.name, 'characters': self.characters}
    return fields if self.unknown is None else {**fields, 'unknown': UNKNOWN}

  @classmethod
  def from_json(cls, fields: dict[str, Any]) -> 'CharTokenizer':
    """Rebuilds the tokenizer that `to_json` described.

    Raises:
      InputError: `characters` is not a sorted string without repeats.
    """
    given = ['unknown'] if 'unknown' in fields else []
    base.check_fields(fields, 'characters', *given)
    characters = fields['characters']
    if not isinstance(characters, str) or not characters:
      raise InputError("'characters' must be a string that is not empty")
    base.check_learnable(characters)
    if list(characters) != sorted(set(characters)):
      raise InputError("'characters' must be sorted and without repeats")
    if given and (fields['unknown'] != UNKNOWN or UNKNOWN not in characters):
      raise InputError("'unknown' must be U+FFFD, and in 'characters'")
    return cls(characters, bool(given))
