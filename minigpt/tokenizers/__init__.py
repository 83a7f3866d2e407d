"""Three tokenizers behind one protocol: characters, words, GPT-2's BPE.

>>> tokenizer = build('char', text)
>>> ids = tokenizer.encode(text)
>>> tokenizer.decode(ids) == text
True

Only `in_graph` brings TensorFlow along.
"""

from minigpt.tokenizers.base import Tokenizer
from minigpt.tokenizers.registry import build, load, save

__all__ = ['Tokenizer', 'build', 'load', 'save']
