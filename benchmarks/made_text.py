"""Writes text of any size, the same each time, with many different words.

Words are syllables set together, and the n-th commonest is as frequent as 1/n
(Zipf), so a vocabulary of byte pairs finds as much to merge as in a language.
"""

import itertools
from collections.abc import Iterator
from pathlib import Path

import numpy as np

_ONSETS = ['', *'bcdfghklmnprstvwz', 'br', 'ch', 'gr', 'pl', 'sch', 'st', 'tr']
_VOWELS = [*'aeiouyäéöü', 'ai', 'ea', 'ou']
_CODAS = ['', '', '', *'lmnrst', 'ck', 'ng', 'rd', 'st']
_WORDS = 200_000
_BLOCK = 1_000_000  # Words that are drawn at a time, some 6 MB.
_BLOCKS = 32  # Then they come again.
_SENTENCE = 12  # Words of a line.


def write(path: Path, n_bytes: int) -> None:
  """Writes a text of `n_bytes`, and the rest of its last line."""
  left = n_bytes
  with open(path, 'wb') as file:
    for block in _blocks():
      # The last block is cut at the end of a line.
      end = block.index(b'\n', left - 1) + 1 if left < len(block) else None
      left -= file.write(block[:end])
      if left <= 0:
        return


def _blocks() -> Iterator[bytes]:
  rng = np.random.default_rng(0)
  words = _lexicon(rng)
  inside = np.array([f'{word} ' for word in words], object)
  last = np.array([f'{word}.\n' for word in words], object)
  shares = np.cumsum(1 / np.arange(1, _WORDS + 1))
  ends = np.arange(_BLOCK) % _SENTENCE == _SENTENCE - 1
  ends[-1] = True
  made = []
  for _ in range(_BLOCKS):
    drawn = np.searchsorted(shares, rng.random(_BLOCK) * shares[-1])
    drawn = np.minimum(drawn, _WORDS - 1)
    made.append(''.join(np.where(ends, last[drawn], inside[drawn])).encode())
    yield made[-1]
  yield from itertools.cycle(made)


def _lexicon(rng: np.random.Generator) -> list[str]:
  """Returns different words, short ones first."""
  syllables = list(map(''.join, itertools.product(_ONSETS, _VOWELS, _CODAS)))
  found: dict[str, None] = {}
  for size in range(1, 6):
    drawn = rng.integers(len(syllables), size=[_WORDS // 2, size])
    for word in drawn.tolist():
      found[''.join(syllables[i] for i in word)] = None
  return [*found][:_WORDS]
