"""Places at which a text may be cut without changing its tokens.

The tokens of the parts, one after the other, are the tokens of the whole text.
A `Cuts` holds one or more regular expressions, that of the best places first;
each matches the character before a place and looks ahead at the one after it.
No place is between CR and LF, as reading may turn the two into one line feed.
"""

import re
from collections.abc import Iterator
from typing import TypeAlias

Cuts: TypeAlias = tuple[re.Pattern[str], ...]

# No token of any tokenizer spans a visible character and the white space after.
BEFORE_BLANKS: Cuts = (re.compile(r'\S(?=[ \n])'),)
ANYWHERE: Cuts = (re.compile(r'(?s:[^\r](?=.)|\r(?=[^\n]))'),)
_NEAR = 4096  # Characters within which a better place is preferred.


def first(cuts: Cuts, text: str, start: int = 0) -> int:
  """Returns the first place after `start`, or a better one near it, or 0."""
  for begin in range(start, len(text), _NEAR):
    for cut in cuts:
      # The expressions need one character on each side of a place.
      if found := cut.search(text, max(begin - 1, 0), begin + _NEAR + 1):
        return found.end()
  return 0


def last(cuts: Cuts, text: str) -> int:
  """Returns the last place, or a better one near it, or 0."""
  end = 0
  for begin in (max(len(text) - _NEAR, 0), 0):
    for cut in cuts:
      for found in cut.finditer(text, begin):
        end = found.end()
      if end:
        return end
  return 0


def chunks(text: str, cuts: Cuts, size: int = 1 << 20) -> Iterator[str]:
  """Cuts a text into chunks of at least `size` characters, but for the last."""
  start = 0
  while start < len(text):
    end = first(cuts, text, start + size) or len(text)
    yield text[start:end]
    start = end
