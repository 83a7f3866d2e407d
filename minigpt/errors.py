"""The two faults a user can meet; programs turn each into one line.

Anything else that escapes a program is a bug and keeps its traceback.
"""

import difflib
from collections.abc import Iterable


class UsageError(ValueError):
  """What was asked for makes no sense: a bad flag or size. Exit code 2."""


class InputError(Exception):
  """What was given or found cannot be used: a file, a network. Exit code 1."""


def unknown(kind: str, name: str, known: Iterable[str]) -> UsageError:
  """Says that `name` is no `kind`, and which one was probably meant."""
  known = sorted(known)
  near = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
  hint = f'did you mean {near[0]!r}? ' if near else ''
  return UsageError(
    f'unknown {kind} {name!r}: {hint}known are {", ".join(known)}'
  )
