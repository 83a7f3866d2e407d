"""GPT-2's byte pair encoding (Radford et al. 2019, 2.2), through tiktoken."""

import base64
from typing import TYPE_CHECKING, Any

import numpy as np

from minigpt.tokenizers import base, byte_pairs

if TYPE_CHECKING:
  from minigpt.tokenizers.in_graph_base import InGraphTokenizer


class GPT2Tokenizer(base.Tokenizer):
  """Applies GPT-2's 50,000 merges to the 256 bytes.

  The last token is `<|endoftext|>`; text that contains this string is encoded
  like any other text.

  Raises:
    InputError: the vocabulary is not cached and cannot be downloaded.
  """

  name = 'gpt2'
  vocab_size = 50257
  end_of_text = 50256
  cuts = byte_pairs.cuts()

  def __init__(self) -> None:
    """Loads GPT-2's vocabulary."""
    encoding = byte_pairs.gpt2_encoding()
    token = encoding.decode_single_token_bytes
    self.tokens = [token(i) for i in range(self.vocab_size)]
    texts = self.tokens[: self.end_of_text]
    self._encoder = byte_pairs.Encoder(
      encoding, {token: rank for rank, token in enumerate(texts)}
    )

  def encode(self, text: str) -> np.ndarray:  # -> int32 [T]
    """Returns the ids of a text; every text has some."""
    return base.encode_in_chunks(self._encoder.encode, text, self.cuts)

  def in_graph(self) -> 'InGraphTokenizer':
    """Returns the same tokenizer as TensorFlow operations."""
    from minigpt.tokenizers import gpt2_in_graph  # TensorFlow.

    return gpt2_in_graph.BPEInGraph(
      self.tokens, byte_pairs.code_point_kinds(), [self.end_of_text]
    )

  def to_json(self) -> dict[str, Any]:
    """Returns the kind, the only field of tokenizer.json."""
    return {'kind': self.name}

  @classmethod
  def from_json(cls, fields: dict[str, Any]) -> 'GPT2Tokenizer':
    """Rebuilds the tokenizer that `to_json` described.

    Raises:
      InputError: there are other fields, or the vocabulary is not available.
    """
    base.check_fields(fields)
    return cls()

  def assets(self) -> dict[str, bytes]:
    """Returns the JSON, and the vocabulary in tiktoken's format."""
    # A line for each token: its bytes as base64, and its rank.
    lines = (
      base64.b64encode(token) + b' %d\n' % rank
      for rank, token in enumerate(self.tokens[: self.end_of_text])
    )
    return super().assets() | {'gpt2.tiktoken': b''.join(lines)}
