"""A model to start from, in whichever format it lies on the disk."""

import functools
from pathlib import Path
from typing import NamedTuple

from minigpt import hf, tokenizers, workdir
from minigpt.config import GPTConfig
from minigpt.errors import InputError
from minigpt.params import Params
from minigpt.tokenizers import Tokenizer


class Pretrained(NamedTuple):
  config: GPTConfig
  weights: Params  # arrays or variables, float32
  tokenizer: Tokenizer


def load(path: Path, tokenizer: Tokenizer | None = None) -> Pretrained:
  """Reads a work directory, or GPT-2 in Hugging Face's or OpenAI's format.

  Args:
    tokenizer: takes the place of the one that lies in `path`.

  Raises:
    InputError: there is no such model, its files are damaged, or its
      tokenizer is none of minigpt's.
  """
  if not path.is_dir():
    raise InputError(f'{path} is not a directory; give the one of the model')
  if hf.is_pretrained(path):
    config, weights = hf.read(path)
    tokenizer = tokenizer or _tokenizer(path, config)
  elif workdir.holds_run(path):
    trained = workdir.load_trained(path)
    config, weights = trained.run.model, trained.model.params
    tokenizer = tokenizer or trained.tokenizer
  else:
    raise InputError(
      f'{path} holds no model: neither a run of train.py nor a GPT-2 with its '
      'config.json or hparams.json'
    )
  if tokenizer.vocab_size != config.vocab_size:
    raise InputError(
      f'{path}: the model knows {config.vocab_size} tokens, the '
      f'{tokenizer.name} tokenizer {tokenizer.vocab_size}; give the tokenizer '
      'that it was trained with'
    )
  return Pretrained(config, weights, tokenizer)


def _tokenizer(path: Path, config: GPTConfig) -> Tokenizer:
  if (path / hf.TOKENIZER).is_file():
    return tokenizers.load(path / hf.TOKENIZER)
  ids = hf.vocabulary(path)
  if config.vocab_size == 50257:
    gpt2 = tokenizers.build('gpt2', '')
    if not ids or ids == _gpt2_ids(gpt2.tokens):
      return gpt2
  raise InputError(
    f'{path}: its {config.vocab_size} tokens are not those of GPT-2; give the '
    'tokenizer.json of the run that it was trained in'
  )


def _gpt2_ids(tokens: list[bytes]) -> dict[str, int]:
  """GPT-2's vocab.json, which spells each byte as a visible character."""
  spelled = [''.join(map(_visible_bytes().__getitem__, t)) for t in tokens]
  return {token: i for i, token in enumerate(spelled)}


@functools.cache
def _visible_bytes() -> list[str]:
  """Visible bytes as Latin-1, the others in turn from U+0100 on.

  Source: bytes_to_unicode in https://github.com/openai/gpt-2, src/encoder.py.
  """
  visible = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
  others = iter(range(0x100, 0x200))
  return [chr(b if b in visible else next(others)) for b in range(256)]
