"""Small random models, and what an inspection of one finds."""

import pytest

from minigpt.config import GPTConfig

LETTERS = '\n abcdefghij'
CONFIG = GPTConfig(
  vocab_size=12,
  context_length=20,
  emb_dim=8,
  n_heads=2,
  n_layers=1,
  init_std=0.5,
)


@pytest.fixture(scope='session')
def letters():
  """A model of 12 characters, the line feed among them; context 20."""
  from minigpt import tokenizers
  from minigpt.checkpoints.loading import LoadedModel
  from minigpt.model.params import init_params

  tokenizer = tokenizers.build('char', LETTERS)
  return LoadedModel(CONFIG, init_params(CONFIG, seed=1), tokenizer)


PROMPT = 'a <b>\nb'
INSPECTED = GPTConfig(
  vocab_size=6,
  context_length=8,
  emb_dim=4,
  n_heads=2,
  n_layers=2,
  init_std=0.5,
)


@pytest.fixture(scope='session')
def prompted():
  """A model whose 6 characters are those of `PROMPT`."""
  from minigpt import tokenizers
  from minigpt.checkpoints.loading import LoadedModel
  from minigpt.model.params import init_params

  tokenizer = tokenizers.build('char', PROMPT)
  return LoadedModel(INSPECTED, init_params(INSPECTED, seed=3), tokenizer)


@pytest.fixture(scope='session')
def found(prompted):
  """The inspection of that model on `PROMPT`, 7 tokens."""
  from minigpt.analysis.introspection import inspect

  ids = prompted.tokenizer.encode(PROMPT)
  return inspect(ids, prompted.weights, prompted.config, k=4)
