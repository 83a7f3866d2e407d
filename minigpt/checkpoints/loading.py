"""A model to start from, in whichever format it lies on the disk."""

from pathlib import Path
from typing import NamedTuple

from minigpt import tokenizers
from minigpt.checkpoints import huggingface as hf
from minigpt.checkpoints import workdir
from minigpt.config import GPTConfig
from minigpt.errors import InputError
from minigpt.model.params import Params
from minigpt.tokenizers import Tokenizer, hf_files


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
    if not ids or ids == hf_files.vocabulary(gpt2.tokens):
      return gpt2
  raise InputError(
    f'{path}: its {config.vocab_size} tokens are not those of GPT-2; give the '
    'tokenizer.json of the run that it was trained in'
  )
