"""The two errors that a user can cause; a command prints them as one line.

Any other exception that escapes a command is a bug and keeps its traceback.
"""

import difflib
from collections.abc import Iterable


class UsageError(ValueError):
  """Reports a request that makes no sense: a bad flag or size. Exit code 2."""


class InputError(Exception):
  """Reports a file, network or answer that cannot be used. Exit code 1."""


def unknown(kind: str, name: str, known: Iterable[str]) -> UsageError:
  """Returns the error for a name that is not known, with the closest match."""
  known = sorted(known)
  near = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
  hint = f'did you mean {near[0]!r}? ' if near else ''
  return UsageError(
    f'unknown {kind} {name!r}: {hint}known are {", ".join(known)}'
  )
