"""Text to token ids and back: characters, words, byte pairs.

>>> tokenizer = build('char', text)
>>> ids = tokenizer.encode(text)
>>> tokenizer.decode(ids) == text
True

Each tokenizer has a class in Python, which needs no TensorFlow, and one built
of TensorFlow operations (`*_in_graph`), for SavedModels. `data` reads corpora
and cuts them into windows.
"""

from minigpt.tokenizers.base import Tokenizer, encode_prompt
from minigpt.tokenizers.registry import build, cuts_to_learn, load, save

__all__ = [
  'Tokenizer',
  'build',
  'cuts_to_learn',
  'encode_prompt',
  'load',
  'save',
]
