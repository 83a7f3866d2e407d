"""How far one text is from another."""

from collections.abc import Sequence

import numpy as np


def edit_distance(a: str, b: str) -> int:
  """Returns the fewest insertions, deletions and substitutions from a to b.

  Wagner & Fischer 1974, one row of the table at a time.
  """
  codes = np.array(list(map(ord, b)), np.int64)
  column = np.arange(len(b) + 1)
  row = column
  for i, character in enumerate(a, 1):
    substituted = row[:-1] + (codes != ord(character))
    cheapest = np.minimum(substituted, row[1:] + 1)
    # Insertions run along the row, where each costs 1 more than its left
    # neighbour. Less its column's number, that is a running minimum.
    row = np.concatenate([[i], cheapest]) - column
    row = np.minimum.accumulate(row) + column
  return int(row[-1])


def character_error_rate(found: Sequence[str], wanted: Sequence[str]) -> float:
  """Returns edits over the characters wanted, both summed over all texts."""
  n_edits = sum(edit_distance(f, w) for f, w in zip(found, wanted, strict=True))
  return n_edits / sum(map(len, wanted))
