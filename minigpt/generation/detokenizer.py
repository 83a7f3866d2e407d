"""Text from tokens that arrive a few at a time."""

import codecs
from collections.abc import Sequence

import numpy as np

from minigpt.tokenizers import Tokenizer


class Detokenizer:
  """The text of one sequence while it grows.

  What may be the beginning of a stop string or of a character is held back
  until the next tokens decide.

  Attributes:
    text: all text so far, including what is held back.
    stopped: whether the text has ended.
  """

  def __init__(self, tokenizer: Tokenizer, stop: Sequence[str]) -> None:
    """Begins an empty text.

    Args:
      tokenizer: of the tokens that are added.
      stop: strings that end the text, and are no part of it.
    """
    self.text = ''
    self.stopped = False
    self._tokenizer = tokenizer
    self._stop = stop
    self._utf8 = codecs.getincrementaldecoder('utf-8')('replace')
    self._n_released = 0  # Characters that were returned.

  def add(self, tokens: Sequence[int] | np.ndarray) -> str:
    """Takes in new tokens; returns the text that has become certain."""
    self.text += self._utf8.decode(self._tokenizer.decode_bytes(tokens))
    # A stop string can't begin in text that was released as certain.
    ends = [self.text.find(stop, self._n_released) for stop in self._stop]
    ends = [end for end in ends if end >= 0]
    if ends:
      self.text = self.text[: min(ends)]
      self.stopped = True
      return self._release(len(self.text))
    n_held = max(map(len, self._stop), default=1) - 1
    return self._release(max(self._n_released, len(self.text) - n_held))

  def finish(self) -> str:
    """Returns what was held back."""
    if not self.stopped:
      self.text += self._utf8.decode(b'', final=True)
    return self._release(len(self.text))

  def _release(self, end: int) -> str:
    new = self.text[self._n_released : end]
    self._n_released = end
    return new
