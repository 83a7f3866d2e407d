"""Byte pair encoding with GPT-2's split, through tiktoken."""

import functools
import re
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np

from minigpt.errors import InputError
from minigpt.tokenizers import base
from minigpt.tokenizers.cuts import BEFORE_BLANKS, Cuts

OTHER, LETTER, NUMBER, SPACE = range(4)  # kinds of code points
LONGEST_TOKEN = 128  # bytes
MAX_VOCAB_SIZE = 2**16
# GPT-2's expression for the pieces within which bytes are merged (encoder.py of
# https://github.com/openai/gpt-2), with possessive quantifiers as in tiktoken:
# the same pieces, and no backtracking.
SPLIT = (
  r"'(?:[sdmt]|ll|ve|re)| ?\p{L}++| ?\p{N}++| ?[^\s\p{L}\p{N}]++|\s++$|"
  r'\s+(?!\S)|\s'
)
# White space as in tiktoken's expression; Python's \s has four more control
# characters.
_SPACE = r'[\t-\r \x85\xa0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000]'
_MOST_SPACES = 1 << 16
# A piece of letters or of digits ends before a mark, such as `?` or a vowel
# sign of Thai, which is no letter. So even text without white space can be cut.
# The lists are incomplete on purpose: they hold characters on which all
# versions of Unicode agree.
_IN_RUNS = (
  '0-9A-Za-z\u05d0-\u05ea\u0620-\u064a\u0904-\u0939\u0e01-\u0e30'
  '\u0e81\u0e82\u0e94-\u0e97\u0e99-\u0e9f\u1000-\u1021\u1780-\u17b3'
  '\u0f40-\u0f47\u0f49-\u0f6a\u3041-\u3096\u30a1-\u30fa\u3400-\u4db5'
  '\u4e00-\u9fa5\uac00-\ud7a3'
)
_MARKS = (
  '!-/:-@[-`{-~\u060c\u061b\u061f\u064b-\u0652\u06d4\u0964\u0965'
  '\u0e31\u0e34-\u0e3a\u0e47-\u0e4e\u0eb1\u0eb4-\u0eb9\u0ebb\u0ebc'
  '\u0ec8-\u0ecd\u0f0b-\u0f0d\u0f71-\u0f84\u102d-\u1030\u104a\u104b'
  '\u17b7-\u17bd\u17c6\u17c9-\u17d5\u2014\u2018-\u201d\u2026'
  '\u3001-\u3003\u3008-\u3011\u30fb\uff01-\uff0f\uff1a-\uff20'
)


def cuts(special: Iterable[str] = ()) -> Cuts:
  """Returns the places at which GPT-2's split allows a text to be cut.

  Args:
    special: special tokens, which must not be cut; they have no white space.
  """
  within = re.escape(''.join(token[1:] for token in special))
  marks = f'(?![{within}])[{_MARKS}]' if within else f'[{_MARKS}]'
  others = rf'\S(?={_SPACE})|[{_IN_RUNS}](?={marks})'
  return (*BEFORE_BLANKS, re.compile(others))


@functools.cache
def gpt2_encoding() -> Any:
  """Loads GPT-2's encoding, or raises InputError if that is impossible."""
  import tiktoken  # Slow, and not needed for the other tokenizers.

  try:
    return tiktoken.get_encoding('gpt2')
  except (OSError, ValueError) as error:
    reason = ' '.join(str(error).split())[:160]
    raise InputError(
      f'cannot load the gpt2 vocabulary: connect to the network once, or set '
      f'TIKTOKEN_CACHE_DIR to a folder that holds it ({reason})'
    ) from error


def make_encoding(ranks: dict[bytes, int], split: str = SPLIT) -> Any:
  """Makes an encoding that merges the pair of lowest rank first.

  Args:
    ranks: the tokens, including all single bytes; a rank is the token's id.
    split: the regular expression that matches a piece.
  """
  import tiktoken

  return tiktoken.Encoding(
    'minigpt', pat_str=split, mergeable_ranks=ranks, special_tokens={}
  )


class Encoder:
  """Encodes any text, also a million blanks, at which tiktoken panics."""

  def __init__(self, encoding: Any, ranks: dict[bytes, int]):
    """Keeps an encoding and its ranks."""
    self.encoding = encoding
    self._ranks = ranks

  def encode(self, text: str) -> list[int]:
    """Returns the ids of a text."""
    ids: list[int] = []
    for part, is_piece in split_long_spaces(text):
      encoding = self.of_pieces if is_piece else self.encoding
      ids += encoding.encode_ordinary(part)
    return ids

  @functools.cached_property
  def of_pieces(self) -> Any:
    """Returns the encoding that treats a whole text as one piece."""
    return make_encoding(self._ranks, '(?s:.+)')


def split_long_spaces(
  text: str, most: int = _MOST_SPACES
) -> Iterator[tuple[str, bool]]:
  """Yields parts that share no token, and whether each is a piece by itself.

  On a run of white space before visible text, tiktoken's expression backtracks,
  and its engine panics after a million steps. The piece that the expression
  matches there is the run without its last character, whatever surrounds it.
  So this function cuts out such pieces where they are long.

  Args:
    text: any text.
    most: the longest run of white space to leave to tiktoken.
  """
  # A long run contains a whole block of white space. Most texts have none, and
  # this test is faster than a regular expression.
  size = max(most // 2, 1)
  if not any(text[i : i + size].isspace() for i in range(0, len(text), size)):
    yield text, False
    return
  start = 0
  # The look-behind keeps the search from trying each place within a run.
  for run in re.finditer(f'(?<!{_SPACE}){_SPACE}{{{most},}}', text):
    is_last = run.end() == len(text)
    end = run.end() if is_last else run.end() - 1
    yield text[start : run.start()], False
    yield text[run.start() : end], True
    start = end
  yield text[start:], False


@functools.cache
def code_point_kinds() -> np.ndarray:  # -> int [0x110000]
  """Returns the kind of each code point: OTHER, LETTER, NUMBER or SPACE.

  tiktoken's version of Unicode is neither Python's nor RE2's, so the kinds come
  from tiktoken itself: an encoding whose pattern matches only one class drops
  all other characters.
  """
  patterns = {LETTER: r'\p{L}', NUMBER: r'\p{N}', SPACE: r'\s'}
  every = [*range(0xD800), *range(0xE000, base.N_CODE_POINTS)]
  text = ''.join(map(chr, every))
  kinds = np.full([base.N_CODE_POINTS], OTHER)
  for kind, pattern in patterns.items():
    matches = make_encoding({bytes([b]): b for b in range(256)}, pattern)
    found = matches.decode(matches.encode_ordinary(text))
    kinds[base.code_points(found)] = kind
  return kinds
