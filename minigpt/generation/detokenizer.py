"""Streaming detokenization: text from tokens that arrive a few at a time."""

import codecs
from collections.abc import Sequence

import numpy as np

from minigpt.generation import automaton
from minigpt.tokenizers import Tokenizer


class Detokenizer:
  """Decodes the tokens of one sequence as they are generated.

  Bytes that may begin a stop string or an unfinished character are held back
  until later tokens decide.

  Attributes:
    text: all text released so far.
    stopped: whether a stop string, or the caller, has ended the text.
    n_bytes: how many bytes of the tokens are released so far.
  """

  def __init__(self, tokenizer: Tokenizer, stop: Sequence[str]) -> None:
    """Starts with an empty text.

    Args:
      tokenizer: decodes the tokens.
      stop: strings that end the text and are not part of it. `automaton` says
        which one counts where several match.
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
    """Adds tokens; returns the text that they release."""
    new = self._tokenizer.decode_bytes(tokens)
    self._state, stop = automaton.feed(self._stops, self._state, new)
    n_held, self._held = len(self._held), self._held + new
    if stop is not None:
      self._held = self._held[: n_held + stop]
      self.stopped = True
      return self.finish()
    return self._release(len(self._held) - self._stops.depth[self._state])

  def finish(self) -> str:
    """Releases and returns the text that was held back."""
    return self._release(len(self._held), is_last=True)

  def _release(self, n: int, is_last: bool = False) -> str:
    certain, self._held = self._held[:n], self._held[n:]
    self.n_bytes += len(certain)
    new = self._utf8.decode(certain, is_last)
    self.text += new
    return new
