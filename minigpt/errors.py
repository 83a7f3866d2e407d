"""The two errors that a user can cause; commands print each as one line.

Any other exception that escapes a command is a bug and keeps its traceback.
"""

import difflib
from collections.abc import Iterable


class UsageError(ValueError):
  """The request makes no sense: a bad flag or size. Exit code 2."""


class InputError(Exception):
  """Something cannot be used: a file, a network. Exit code 1."""


def unknown(kind: str, name: str, known: Iterable[str]) -> UsageError:
  """Returns an error that says which `kind` was probably meant by `name`."""
  known = sorted(known)
  near = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
  hint = f'did you mean {near[0]!r}? ' if near else ''
  return UsageError(
    f'unknown {kind} {name!r}: {hint}known are {", ".join(known)}'
  )
