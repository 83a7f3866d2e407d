"""Text from tokens that arrive a few at a time."""

import codecs
from collections.abc import Sequence

import numpy as np

from minigpt.generation import automaton
from minigpt.tokenizers import Tokenizer


class Detokenizer:
  """The text of one sequence while it grows.

  What may be the beginning of a stop string or of a character is held back
  until the next tokens decide.

  Attributes:
    text: all text that has become certain.
    stopped: whether the text has ended.
    n_bytes: bytes of the tokens that have become certain.
  """

  def __init__(self, tokenizer: Tokenizer, stop: Sequence[str]) -> None:
    """Begins an empty text.

    Args:
      tokenizer: of the tokens that are added.
      stop: strings that end the text, and are no part of it; which of several
        ends it is the rule of `automaton`.
    """
    self.text = ''
    self.stopped = False
    self.n_bytes = 0
    self._tokenizer = tokenizer
    self._stops = automaton.build([string.encode() for string in stop])
    self._state = 0
    self._held = b''
    self._utf8 = codecs.getincrementaldecoder('utf-8')('replace')

  def add(self, tokens: Sequence[int] | np.ndarray) -> str:
    """Takes in new tokens; returns the text that has become certain."""
    new = self._tokenizer.decode_bytes(tokens)
    self._state, stop = automaton.feed(self._stops, self._state, new)
    n_held, self._held = len(self._held), self._held + new
    if stop is not None:
      self._held = self._held[: n_held + stop]
      self.stopped = True
      return self.finish()
    return self._release(len(self._held) - self._stops.depth[self._state])

  def finish(self) -> str:
    """Returns what was held back."""
    return self._release(len(self._held), is_last=True)

  def _release(self, n: int, is_last: bool = False) -> str:
    certain, self._held = self._held[:n], self._held[n:]
    self.n_bytes += len(certain)
    new = self._utf8.decode(certain, is_last)
    self.text += new
    return new
