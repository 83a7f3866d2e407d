"""Special tokens: strings that become one token each, such as `<|user|>`.

No two of them may overlap in any text. So every program finds the same special
tokens in a text, in whatever order it looks for them.
"""

import itertools
import re
from collections.abc import Iterable, Sequence

from minigpt.errors import UsageError

END_OF_TEXT = '<|endoftext|>'
_MOST = 64  # The graph looks for each of them in turn.


def check(special: Sequence[str]) -> None:
  """Raises UsageError unless the tokens are well-formed and cannot overlap.

  Args:
    special: the tokens, without `END_OF_TEXT`.
  """
  if len(special) > _MOST:
    raise UsageError(
      f'{len(special)} special tokens: there can be {_MOST}; give fewer'
    )
  seen = [END_OF_TEXT]  # A list, so that the first error is deterministic.
  for token in special:
    _check(token)
    if token in seen:
      raise UsageError(f'special token {token!r} comes twice; give it once')
    seen.append(token)
  for one, other in itertools.product(seen, seen):
    if _overlap(one, other):
      raise UsageError(
        f'special tokens {one!r} and {other!r} can overlap, so that a text has '
        "two readings; set them apart, as '<|user|>' and '<|system|>' are"
      )


def _check(token: str) -> None:
  if not token:
    raise UsageError("a special token is empty; give it a name like '<|user|>'")
  if re.search(r'[\s\ud800-\udfff]', token):
    raise UsageError(
      f'special token {token!r:.60} holds white space or a lone surrogate; '
      'leave it out'
    )


def _overlap(one: str, other: str) -> bool:
  """Tells whether `other` can begin within `one` in some text."""
  if one != other and other in one:
    return True
  lengths = range(1, min(len(one), len(other)))
  return any(one.endswith(other[:n]) for n in lengths)


def pattern(special: Iterable[str]) -> re.Pattern[str] | None:
  """Returns an expression whose `split` alternates between text and tokens.

  None if there are no tokens.
  """
  alternatives = '|'.join(map(re.escape, special))
  return re.compile(f'({alternatives})') if alternatives else None
