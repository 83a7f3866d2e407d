"""GPT-2's byte pair encoding (Radford et al. 2019, 2.2), through tiktoken."""

import base64
import functools
from typing import TYPE_CHECKING, Any

import numpy as np

from minigpt.errors import InputError
from minigpt.tokenizers import base

if TYPE_CHECKING:
  from minigpt.tokenizers.in_graph_base import InGraphTokenizer


@functools.cache
def _encoding() -> Any:
  """Loads the vocabulary, or raises InputError where there is none."""
  import tiktoken  # Slow, and not needed for the other tokenizers.

  try:
    return tiktoken.get_encoding('gpt2')
  except (OSError, ValueError) as error:
    reason = ' '.join(str(error).split())[:160]
    raise InputError(
      f'cannot load the gpt2 vocabulary: connect to the network once, or set '
      f'TIKTOKEN_CACHE_DIR to a folder that holds it ({reason})'
    ) from error


class GPT2Tokenizer(base.Tokenizer):
  """Applies 50,000 merges to 256 bytes; one more token is `<|endoftext|>`.

  Text that spells `<|endoftext|>` is encoded like any other text.

  Raises:
    InputError: the vocabulary is neither cached nor can be downloaded.
  """

  name = 'gpt2'
  vocab_size = 50257
  end_of_text = 50256

  def __init__(self) -> None:
    """Loads GPT-2's vocabulary."""
    self._encoding = _encoding()
    token = self._encoding.decode_single_token_bytes
    self.tokens = [token(i) for i in range(self.vocab_size)]

  def encode(self, text: str) -> np.ndarray:  # -> int32 [T]
    """Returns the ids of a text; every text has some."""
    return base.encode_in_chunks(self._encoding.encode_ordinary, text)

  def in_graph(self) -> 'InGraphTokenizer':
    """Returns the same tokenizer as TensorFlow operations."""
    from minigpt.tokenizers import gpt2_in_graph  # TensorFlow.

    return gpt2_in_graph.BPEInGraph(self.tokens, _kinds())

  def to_json(self) -> dict[str, Any]:
    """Returns the kind, which says it all."""
    return {'kind': self.name}

  @classmethod
  def from_json(cls, fields: dict[str, Any]) -> 'GPT2Tokenizer':
    """Makes the tokenizer that `to_json` has described.

    Raises:
      InputError: there are other fields, or no vocabulary.
    """
    base.check_fields(fields)
    return cls()

  def assets(self) -> dict[str, bytes]:
    """Returns the JSON, and the vocabulary in tiktoken's format."""
    # A line for each token: its bytes as base64, and its rank.
    lines = (
      base64.b64encode(token) + b' %d\n' % rank
      for rank, token in enumerate(self.tokens[: self.end_of_text])
    )
    return super().assets() | {'gpt2.tiktoken': b''.join(lines)}


@functools.cache
def _kinds() -> np.ndarray:  # -> int [0x110000]
  """Returns what tiktoken considers a letter, a number or white space.

  Its version of Unicode is neither Python's nor RE2's, so tiktoken is asked: an
  encoding whose pattern matches only one class drops all other characters.

  Returns:
    One of the kinds of `gpt2_in_graph` for each code point.
  """
  import tiktoken

  from minigpt.tokenizers import gpt2_in_graph, in_graph_base  # TensorFlow.

  patterns = {
    gpt2_in_graph.LETTER: r'\p{L}',
    gpt2_in_graph.NUMBER: r'\p{N}',
    gpt2_in_graph.SPACE: r'\s',
  }
  every = [*range(0xD800), *range(0xE000, in_graph_base.N_CODE_POINTS)]
  text = ''.join(map(chr, every))
  kinds = np.full([in_graph_base.N_CODE_POINTS], gpt2_in_graph.OTHER)
  for kind, pattern in patterns.items():
    matches = tiktoken.Encoding(
      'matches',
      pat_str=pattern,
      mergeable_ranks={bytes([b]): b for b in range(256)},
      special_tokens={},
    )
    found = matches.decode(matches.encode_ordinary(text))
    kinds[base.code_points(found)] = kind
  return kinds
