"""Byte pair encoding with a custom vocabulary.

It merges bytes (Sennrich et al. 2016) within the pieces of GPT-2's split
(Radford et al. 2019, 2.2). `bpe_trainer` learns the merges.
"""

from typing import TYPE_CHECKING, Any

import numpy as np

from minigpt.tokenizers import base, byte_pairs, hf_tokenizer, special

if TYPE_CHECKING:
  from minigpt.tokenizers.in_graph_base import InGraphTokenizer


class BPETokenizer(base.Tokenizer):
  """Merges bytes to tokens; a special token in the text becomes one token.

  The exception is `<|endoftext|>`, which is encoded like any other text.
  """

  name = 'bpe'

  def __init__(self, tokens: list[bytes], special_ids: dict[str, int]):
    """Makes a tokenizer of a vocabulary.

    Args:
      tokens: bytes by id, including all single bytes. Of two possible merges,
        the one that makes the token of the lower id comes first.
      special_ids: the id of each special token; see `special.check`.
    """
    self.tokens = tokens
    self.vocab_size = len(tokens)
    self.special_ids = special_ids
    self.end_of_text = special_ids.get(special.END_OF_TEXT)
    self._read = {
      token: i for token, i in special_ids.items() if i != self.end_of_text
    }
    self._special = special.pattern(self._read)
    self.cuts = byte_pairs.cuts(self._read)
    apart = set(special_ids.values())
    ranks = {token: i for i, token in enumerate(tokens) if i not in apart}
    self._encoder = byte_pairs.Encoder(byte_pairs.make_encoding(ranks), ranks)

  def encode(self, text: str) -> np.ndarray:  # -> int32 [T]
    """Returns the ids of a text; every text has some."""
    return base.encode_in_chunks(self._encode, text, self.cuts)

  def _encode(self, text: str) -> list[int]:
    encode = self._encoder.encode
    if self._special is None:
      return encode(text)
    ids: list[int] = []
    for i, part in enumerate(self._special.split(text)):
      if i % 2:
        ids.append(self._read[part])
      else:
        ids.extend(encode(part))
    return ids

  def in_graph(self) -> 'InGraphTokenizer':
    """Returns the same tokenizer as TensorFlow operations."""
    from minigpt.tokenizers import gpt2_in_graph  # TensorFlow.

    return gpt2_in_graph.BPEInGraph(
      self.tokens,
      byte_pairs.code_point_kinds(),
      self.special_ids.values(),
      self._read,
    )

  def to_json(self) -> dict[str, Any]:
    """Returns the content of Hugging Face's tokenizer.json."""
    return hf_tokenizer.describe(self.tokens, self.special_ids)

  @classmethod
  def from_json(cls, fields: dict[str, Any]) -> 'BPETokenizer':
    """Makes the tokenizer of a Hugging Face tokenizer.json.

    Raises:
      InputError: the fields do not describe a tokenizer of this kind.
    """
    return cls(*hf_tokenizer.parse(fields))
