"""What every tokenizer offers, and the helpers they share."""

import json
import re
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from minigpt.errors import InputError

if TYPE_CHECKING:
  from minigpt.tokenizers.in_graph_base import InGraphTokenizer


class Tokenizer(Protocol):
  """Text to token ids and back.

  Decoding concatenates the bytes of the tokens, so text can be decoded piece
  by piece as a model writes it: decode_bytes(a + b) is decode_bytes(a) +
  decode_bytes(b).
  """

  name: str
  vocab_size: int
  tokens: list[bytes]  # by id
  end_of_text: int | None  # the id that ends a document, where there is one

  def encode(self, text: str) -> np.ndarray:  # -> int32 [T]
    """Raises InputError for text that has no ids."""
    ...

  def decode_bytes(self, ids: Any) -> bytes:  # int [T] ->
    """The exact bytes; the last ones may be the start of a character.

    Raises:
      InputError: an id lies outside the vocabulary.
    """
    ids = _check_ids(ids, self.vocab_size)
    return b''.join(map(self.tokens.__getitem__, ids.tolist()))

  def decode(self, ids: Any) -> str:  # int [T] ->
    """The text, with U+FFFD where the bytes are not valid UTF-8."""
    return self.decode_bytes(ids).decode('utf-8', 'replace')

  def to_json(self) -> dict[str, Any]:
    """All that `from_json` needs to make this tokenizer again."""
    ...

  @classmethod
  def from_json(cls, fields: dict[str, Any]) -> 'Tokenizer':
    """Raises InputError for fields that `to_json` cannot have written."""
    ...

  def in_graph(self) -> 'InGraphTokenizer':
    """The same tokenizer as TensorFlow operations."""
    ...

  def assets(self) -> dict[str, bytes]:
    """Files, name to content, to publish beside an exported model."""
    return {'tokenizer.json': json_text(self).encode()}


def json_text(tokenizer: Tokenizer) -> str:
  return json.dumps(tokenizer.to_json()) + '\n'


def code_points(text: str) -> np.ndarray:  # -> uint32 [T]
  return np.frombuffer(text.encode('utf-32-le', 'surrogatepass'), np.uint32)


def check_learnable(text: str) -> None:
  """Raises InputError where `text` holds no vocabulary or is no Unicode."""
  if not text:
    raise InputError('no text to learn a vocabulary from: give it some')
  # UTF-8 has no form for lone surrogates, so neither files nor graphs do.
  lone = re.search('[\ud800-\udfff]', text)
  if lone:
    raise InputError(
      f'lone surrogate {lone.group()!r} at position {lone.start()} of the '
      'text: read the text as UTF-8'
    )


def check_fields(fields: dict[str, Any], *names: str) -> None:
  """Raises InputError unless `fields` has exactly these beside its kind."""
  found = sorted(set(fields) - {'kind'})
  if found != sorted(names):
    raise InputError(
      f'a {fields["kind"]} tokenizer has the fields {sorted(names)}, '
      f'found {found}'
    )


def _check_ids(ids: Any, vocab_size: int) -> np.ndarray:  # -> int [T]
  """Raises InputError unless `ids` is a row of ids of the vocabulary."""
  ids = np.asarray(ids)
  if ids.size == 0:
    return np.zeros([0], np.int32)
  if ids.ndim != 1 or not np.issubdtype(ids.dtype, np.integer):
    raise InputError(
      f'token ids of shape {list(ids.shape)} and type {ids.dtype}: give one '
      'row of integers'
    )
  outside = np.flatnonzero((ids < 0) | (ids >= vocab_size))
  if outside.size:
    raise InputError(
      f'token id {ids[outside[0]]} at position {outside[0]} is not in the '
      f'vocabulary of {vocab_size}: decode with the tokenizer that encoded'
    )
  return ids


# Between something visible and the ASCII white space after it, no tokenizer
# here has a token.
_CUT = re.compile(r'\S[ \n]')


def encode_in_chunks(
  encode: Callable[[str], Any], text: str
) -> np.ndarray:  # -> int32 [T]
  """What `encode` makes of the whole text, without its Python lists at once."""
  parts = (np.asarray(encode(chunk), np.int32) for chunk in chunks(text))
  return np.concatenate([np.zeros([0], np.int32), *parts])


def chunks(text: str, size: int = 1 << 20) -> Iterator[str]:
  """Cuts long text where no token spans the cut."""
  start = 0
  while start < len(text):
    cut = _CUT.search(text, start + size)
    end = cut.start() + 1 if cut else len(text)
    yield text[start:end]
    start = end
