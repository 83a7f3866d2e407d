"""GPT-2's byte pair encoding (Radford et al. 2019, 2.2), through tiktoken."""

import base64
import functools
import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from minigpt.errors import InputError
from minigpt.tokenizers import base

if TYPE_CHECKING:
  from minigpt.tokenizers.in_graph_base import InGraphTokenizer


# White space as tiktoken's expression has it; Python's own has four controls
# more.
_SPACE = r'[\t-\r \x85\xa0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000]'
_MOST_SPACES = 1 << 16


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
    return base.encode_in_chunks(self._encode, text)

  def _encode(self, text: str) -> list[int]:
    ids: list[int] = []
    for part, is_piece in split_long_spaces(text):
      encoding = self._of_pieces if is_piece else self._encoding
      ids += encoding.encode_ordinary(part)
    return ids

  @functools.cached_property
  def _of_pieces(self) -> Any:
    """Merges all of a text as one piece."""
    import tiktoken

    texts = self.tokens[: self.end_of_text]
    return tiktoken.Encoding(
      'pieces',
      pat_str='(?s:.+)',
      mergeable_ranks={token: rank for rank, token in enumerate(texts)},
      special_tokens={},
    )

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


def split_long_spaces(
  text: str, most: int = _MOST_SPACES
) -> Iterator[tuple[str, bool]]:
  """Yields parts that share no token, and whether each is a piece by itself.

  tiktoken's expression takes white space before something visible one step
  back, and its engine panics where it remembers a million steps. That piece is
  the run without its last character, whatever surrounds it, so a long one is
  cut out.

  Args:
    text: any.
    most: characters of white space that the expression is given at once.
  """
  # A long run holds one of these blocks, and most texts none: that is found out
  # faster than by an expression.
  size = max(most // 2, 1)
  if not any(text[i : i + size].isspace() for i in range(0, len(text), size)):
    yield text, False
    return
  start = 0
  # Looking behind keeps the search from counting a run again from each place.
  for run in re.finditer(f'(?<!{_SPACE}){_SPACE}{{{most},}}', text):
    is_last = run.end() == len(text)
    end = run.end() if is_last else run.end() - 1
    yield text[start : run.start()], False
    yield text[run.start() : end], True
    start = end
  yield text[start:], False


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
