"""Places where a text may be cut: its parts have just the tokens of the whole.

Each expression matches the character before such a place and looks at the one
after it. Of several, the first is that of the best places. No place lies
between CR and LF, as reading may make one line feed of them.
"""

import re
from collections.abc import Iterator
from typing import TypeAlias

Cuts: TypeAlias = tuple[re.Pattern[str], ...]

# No token of any tokenizer spans something visible and white space after it.
BEFORE_BLANKS: Cuts = (re.compile(r'\S(?=[ \n])'),)
ANYWHERE: Cuts = (re.compile(r'(?s:[^\r](?=.)|\r(?=[^\n]))'),)
_NEAR = 4096  # Characters in which the best places are looked for.


def first(cuts: Cuts, text: str, start: int = 0) -> int:
  """Returns the first place from `start` on, but a better one near it.

  0 where there is none.
  """
  for begin in range(start, len(text), _NEAR):
    for cut in cuts:
      # A place has a character on each side.
      if found := cut.search(text, max(begin - 1, 0), begin + _NEAR + 1):
        return found.end()
  return 0


def last(cuts: Cuts, text: str) -> int:
  """Returns the last place, but a better one near it; 0 where there is none."""
  end = 0
  for begin in (max(len(text) - _NEAR, 0), 0):
    for cut in cuts:
      for found in cut.finditer(text, begin):
        end = found.end()
      if end:
        return end
  return 0


def chunks(text: str, cuts: Cuts, size: int = 1 << 20) -> Iterator[str]:
  """Yields pieces of at least `size` characters; the last may be shorter."""
  start = 0
  while start < len(text):
    end = first(cuts, text, start + size) or len(text)
    yield text[start:end]
    start = end
