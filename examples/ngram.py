"""The next character by counting: what the examples measure a GPT against."""

import collections
import random


class NGram:
  """Tells what followed the last `order` - 1 characters in some text.

  Backs off to fewer where they never stood there (Brants et al. 2007).

  Args:
    order: characters in an n-gram; 2 is a bigram model.
  """

  def __init__(self, text: str, order: int):
    self.order = order
    self.characters = sorted(set(text))
    self.counts = [
      collections.Counter(text[i : i + n] for i in range(len(text) - n + 1))
      for n in range(1, order + 1)
    ]

  def following(self, text: str) -> dict[str, int]:
    """How often each character stood after the end of `text`."""
    for n in reversed(range(self.order)):
      context, counts = text[max(len(text) - n, 0) :], self.counts[n]
      found = {c: counts[context + c] for c in self.characters}
      if len(context) == n and any(found.values()):
        return found
    raise AssertionError('no text was counted')

  def most_likely(self, text: str) -> str:
    found = self.following(text)
    return max(found, key=found.get)

  def sample(self, text: str, rng: random.Random) -> str:
    found = self.following(text)
    return rng.choices(list(found), found.values())[0]
