"""The protocol of tokenizers, and the helpers they share."""

import json
import re
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from minigpt.config.validation import as_strings
from minigpt.errors import InputError
from minigpt.tokenizers.cuts import Cuts, chunks

if TYPE_CHECKING:
  from minigpt.tokenizers.in_graph_base import InGraphTokenizer

N_CODE_POINTS = 0x110000


class Tokenizer(Protocol):
  """Maps text to token ids and back.

  Decoding concatenates the bytes of the tokens, so text can be decoded while a
  model generates it: decode_bytes(a + b) is decode_bytes(a) + decode_bytes(b).

  Attributes:
    name: the kind, as in `build(name, text)`.
    vocab_size: V, the number of tokens.
    tokens: the bytes of each token, by id.
    end_of_text: the id that ends a document; None where there is none.
    unknown: the id of every word that has none; None where all text has ids.
    cuts: where a text may be cut, and its parts encoded on their own.
  """

  name: str
  vocab_size: int
  tokens: list[bytes]
  end_of_text: int | None
  unknown: int | None = None
  cuts: Cuts

  @property
  def boundary(self) -> int | None:
    """Returns the id that stands where one text ends and the next begins.

    It is `end_of_text`, or else a line feed; None where there is neither.
    """
    if self.end_of_text is not None:
      return self.end_of_text
    return self.tokens.index(b'\n') if b'\n' in self.tokens else None

  def encode(self, text: str) -> np.ndarray:  # -> int32 [T]
    """Returns the ids of a text.

    Raises:
      InputError: a part of the text has no id.
    """
    ...

  def token_sizes(self, text: str) -> np.ndarray:  # -> int32 [T]
    """Returns the bytes of UTF-8 that each token of `encode(text)` stands for.

    Raises:
      InputError: as `encode`.
    """
    sizes = np.array(list(map(len, self.tokens)), np.int32)
    return sizes[self.encode(text)]

  def decode_bytes(self, ids: Any) -> bytes:  # int [T] ->
    """Returns the exact bytes; they may end within a character.

    Raises:
      InputError: an id lies outside the vocabulary.
    """
    ids = _check_ids(ids, self.vocab_size)
    return b''.join(map(self.tokens.__getitem__, ids.tolist()))

  def decode(self, ids: Any) -> str:  # int [T] ->
    """Returns the text, with U+FFFD where the bytes are not valid UTF-8.

    Raises:
      InputError: an id lies outside the vocabulary.
    """
    return self.decode_bytes(ids).decode('utf-8', 'replace')

  def to_json(self) -> dict[str, Any]:
    """Returns what `from_json` needs to make this tokenizer again."""
    ...

  @classmethod
  def from_json(cls, fields: dict[str, Any]) -> 'Tokenizer':
    """Makes the tokenizer that `to_json` has described.

    Raises:
      InputError: the fields do not describe a tokenizer of this kind.
    """
    ...

  def in_graph(self) -> 'InGraphTokenizer':
    """Returns the same tokenizer as TensorFlow operations."""
    ...

  def assets(self) -> dict[str, bytes]:
    """Returns files, name to content, to publish with an exported model."""
    return {'tokenizer.json': json_text(self).encode()}


def encode_prompt(tokenizer: Tokenizer, text: str) -> np.ndarray:
  """Returns the tokens of a text to continue, int32 [T], T at least 1.

  An empty text is the boundary before the text that follows.

  Raises:
    InputError: it holds what the tokenizer doesn't know, was not UTF-8 where it
      was typed, or is empty and there is no boundary.
  """
  try:
    text.encode()
  except UnicodeEncodeError as error:  # Python keeps such bytes as surrogates.
    raise InputError(
      f'the prompt {text!r:.60} is not UTF-8 at position {error.start}; write '
      'it in UTF-8'
    ) from None
  ids = tokenizer.encode(text)
  if len(ids):
    return ids
  if tokenizer.boundary is None:
    raise InputError(
      f'the prompt is empty, and the {tokenizer.name} tokenizer knows no end '
      'of text and no line feed to stand for it; give at least one character'
    )
  return np.array([tokenizer.boundary], np.int32)


def json_text(tokenizer: Tokenizer) -> str:
  """Returns the content of the tokenizer's tokenizer.json."""
  return json.dumps(tokenizer.to_json()) + '\n'


def code_points(text: str) -> np.ndarray:  # -> uint32 [T]
  """Returns the Unicode code point of each character."""
  return np.frombuffer(text.encode('utf-32-le', 'surrogatepass'), np.uint32)


def learnable(parts: Iterable[str]) -> Iterator[str]:
  """Yields the parts of a text; InputError where it is empty or no Unicode."""
  is_empty = True
  for part in as_strings(parts):
    if part:
      check_learnable(part)
      is_empty = False
      yield part
  if is_empty:
    check_learnable('')


def check_learnable(text: str) -> None:
  """Raises InputError where a text is empty or is not valid Unicode."""
  if not text:
    raise InputError('no text to learn a vocabulary from: give it some')
  # UTF-8 cannot encode lone surrogates, so files and graphs cannot hold them.
  lone = re.search('[\ud800-\udfff]', text)
  if lone:
    raise InputError(
      f'lone surrogate {lone.group()!r} at position {lone.start()} of the '
      'text: read the text as UTF-8'
    )


def check_fields(fields: dict[str, Any], *names: str) -> None:
  """Raises InputError unless the fields are 'kind' and exactly `names`."""
  found = sorted(set(fields) - {'kind'})
  if found != sorted(names):
    raise InputError(
      f'a {fields["kind"]} tokenizer has the fields {sorted(names)}, '
      f'found {found}'
    )


def _check_ids(ids: Any, vocab_size: int) -> np.ndarray:  # -> int [T]
  """Returns `ids` as an array, or raises InputError for an invalid one."""
  ids = np.asarray(ids)
  if ids.size == 0:
    return np.zeros([0], np.int32)
  if ids.ndim != 1 or not np.issubdtype(ids.dtype, np.integer):
    raise InputError(
      f'token ids of shape {list(ids.shape)} and type {ids.dtype}: give one '
      'sequence of integers'
    )
  outside = np.flatnonzero((ids < 0) | (ids >= vocab_size))
  if outside.size:
    raise InputError(
      f'token id {ids[outside[0]]} at position {outside[0]} is not in the '
      f'vocabulary of {vocab_size}: decode with the tokenizer that encoded'
    )
  return ids


def encode_in_chunks(
  encode: Callable[[str], Any], text: str, cuts: Cuts
) -> np.ndarray:  # -> int32 [T]
  """Encodes a text chunk by chunk, for little memory beyond the result.

  Python lists of ids take many times the memory of an array.
  """
  parts = (np.asarray(encode(chunk), np.int32) for chunk in chunks(text, cuts))
  return np.concatenate([np.zeros([0], np.int32), *parts])
