"""GPT-2's byte pair encoding (Radford et al. 2019, 2.2), through tiktoken."""

import base64
import functools
from typing import Any

import numpy as np

from minigpt.errors import InputError
from minigpt.tokenizers import base


@functools.cache
def _encoding() -> Any:
  """Raises InputError where GPT-2's vocabulary is neither cached nor online."""
  import tiktoken  # slow, and needless for the other tokenizers

  try:
    return tiktoken.get_encoding('gpt2')
  except (OSError, ValueError) as error:
    reason = ' '.join(str(error).split())[:160]
    raise InputError(
      f'cannot load the gpt2 vocabulary: connect to the network once, or set '
      f'TIKTOKEN_CACHE_DIR to a folder that holds it ({reason})'
    ) from error


class GPT2Tokenizer(base.Tokenizer):
  """50,000 merges over 256 bytes, and `<|endoftext|>`.

  Text that spells `<|endoftext|>` is encoded as the text it is.

  Raises:
    InputError: the vocabulary is neither cached nor can be downloaded.
  """

  name = 'gpt2'
  vocab_size = 50257
  end_of_text = 50256

  def __init__(self):
    self._encoding = _encoding()

  def encode(self, text: str) -> np.ndarray:  # -> int32 [T]
    ids = [self._encoding.encode_ordinary(c) for c in base.chunks(text)]
    return np.concatenate([np.array(part, np.int32) for part in [[], *ids]])

  def decode_bytes(self, ids: Any) -> bytes:
    ids = base.check_ids(ids, self.vocab_size)
    return self._encoding.decode_bytes(ids.tolist())

  def to_json(self) -> dict[str, Any]:
    return {'kind': self.name}

  @classmethod
  def from_json(cls, fields: dict[str, Any]) -> 'GPT2Tokenizer':
    base.check_fields(fields)
    return cls()

  def assets(self) -> dict[str, bytes]:
    """The JSON, and the vocabulary in tiktoken's format: base64, rank."""
    lines = (
      base64.b64encode(token) + b' %d\n' % rank
      for rank, token in enumerate(self.tokens()[: self.end_of_text])
    )
    return super().assets() | {'gpt2.tiktoken': b''.join(lines)}

  def tokens(self) -> list[bytes]:
    """The bytes of every token, by id."""
    single = self._encoding.decode_single_token_bytes
    return [single(i) for i in range(self.vocab_size)]
