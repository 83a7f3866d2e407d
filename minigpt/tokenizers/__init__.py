"""Text to token ids and back: characters, words, byte pairs.

>>> tokenizer = build('char', text)
>>> ids = tokenizer.encode(text)
>>> tokenizer.decode(ids) == text
True

Each tokenizer is one class in Python, without TensorFlow, and one made of
TensorFlow operations (`*_in_graph`), for SavedModels. Reading corpora and
cutting them into windows is the work of `data`.
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
