"""Distances between texts."""

from collections.abc import Sequence

import numpy as np


def edit_distance(a: str, b: str) -> int:
  """Returns the fewest insertions, deletions and substitutions from a to b.

  Source: Wagner & Fischer 1974; computes one row of the table at a time.
  """
  codes = np.array(list(map(ord, b)), np.int64)
  column = np.arange(len(b) + 1)
  row = column
  for i, character in enumerate(a, 1):
    substituted = row[:-1] + (codes != ord(character))
    cheapest = np.minimum(substituted, row[1:] + 1)
    # An insertion costs 1 more than the entry to its left. After subtracting
    # the column number from each entry, that is a running minimum.
    row = np.concatenate([[i], cheapest]) - column
    row = np.minimum.accumulate(row) + column
  return int(row[-1])


def character_error_rate(found: Sequence[str], wanted: Sequence[str]) -> float:
  """Returns all edits divided by all characters of the wanted texts."""
  n_edits = sum(edit_distance(f, w) for f, w in zip(found, wanted, strict=True))
  return n_edits / sum(map(len, wanted))
