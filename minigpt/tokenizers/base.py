"""The protocol of tokenizers, and helpers that they share."""

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
_PART = 1 << 16  # Ids in a list at a time, as it takes many times their memory.


class Tokenizer(Protocol):
  """Maps text to token ids and back.

  Decoding concatenates the bytes of the tokens: decode_bytes(a + b) equals
  decode_bytes(a) + decode_bytes(b). So text can be decoded while a model
  generates it.

  Attributes:
    name: the kind, as in `build(name, text)`.
    vocab_size: V, the number of tokens.
    tokens: the bytes of each token, by id.
    end_of_text: the id of the token that ends a document, if there is one.
    unknown: the id that stands for everything outside the vocabulary, if there
      is one.
    cuts: where a text may be cut so that its parts can be encoded separately.
  """

  name: str
  vocab_size: int
  tokens: list[bytes]
  end_of_text: int | None
  unknown: int | None = None
  cuts: Cuts

  @property
  def boundary(self) -> int | None:
    """Returns the id that separates texts.

    It is `end_of_text`, or else a line feed; None if the vocabulary has
    neither.
    """
    if self.end_of_text is not None:
      return self.end_of_text
    return self.tokens.index(b'\n') if b'\n' in self.tokens else None

  def encode(self, text: str) -> np.ndarray:  # -> int32 [T]
    """Returns the ids of a text.

    Raises:
      InputError: a part of the text is not in the vocabulary.
    """
    ...

  def token_sizes(self, text: str) -> np.ndarray:  # -> int32 [T]
    """Returns how many bytes of UTF-8 each token of `encode(text)` stands for.

    Raises:
      InputError: as `encode`.
    """
    sizes = np.array(list(map(len, self.tokens)), np.int32)
    return sizes[self.encode(text)]

  def decode_bytes(self, ids: Any) -> bytes:  # int [T] ->
    """Returns the exact bytes, which may end within a character.

    Raises:
      InputError: an id lies outside the vocabulary.
    """
    ids = _check_ids(ids, self.vocab_size)
    parts = (ids[i : i + _PART].tolist() for i in range(0, len(ids), _PART))
    return b''.join(b''.join(map(self.tokens.__getitem__, p)) for p in parts)

  def decode(self, ids: Any) -> str:  # int [T] ->
    """Returns the text, with U+FFFD where the bytes are not valid UTF-8.

    Raises:
      InputError: an id lies outside the vocabulary.
    """
    return self.decode_bytes(ids).decode('utf-8', 'replace')

  def to_json(self) -> dict[str, Any]:
    """Returns the fields from which `from_json` rebuilds this tokenizer."""
    ...

  @classmethod
  def from_json(cls, fields: dict[str, Any]) -> 'Tokenizer':
    """Rebuilds the tokenizer that `to_json` described.

    Raises:
      InputError: the fields do not describe a tokenizer of this kind.
    """
    ...

  def in_graph(self) -> 'InGraphTokenizer':
    """Returns the same tokenizer as TensorFlow operations."""
    ...

  def assets(self) -> dict[str, bytes]:
    """Returns files, {name: content}, to publish with an exported model."""
    return {'tokenizer.json': json_text(self).encode()}


def encode_prompt(tokenizer: Tokenizer, text: str) -> np.ndarray:
  """Returns the tokens of a prompt, int32 [T], T at least 1.

  An empty prompt becomes the token `boundary`, after which a text begins.

  Raises:
    InputError: the prompt has text outside the vocabulary, was not typed in
      UTF-8, or is empty and there is no boundary.
  """
  try:
    text.encode()
  except UnicodeEncodeError as error:  # Python maps other bytes to surrogates.
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
  """Yields the parts of a text that are not empty, each checked.

  Raises:
    InputError: all parts are empty, or one is not valid Unicode.
  """
  is_empty = True
  for part in as_strings(parts):
    if part:
      check_learnable(part)
      is_empty = False
      yield part
  if is_empty:
    check_learnable('')


def check_learnable(text: str) -> None:
  """Raises InputError if a text is empty or not valid Unicode."""
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
  """Encodes a text chunk by chunk, to save memory.

  A Python list of ids takes many times the memory of an array, so only one
  chunk's ids are a list at a time.
  """
  parts = (np.asarray(encode(chunk), np.int32) for chunk in chunks(text, cuts))
  return np.concatenate([np.zeros([0], np.int32), *parts])
