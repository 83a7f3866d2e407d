"""Small random models, and an inspection of one."""

import pytest
import small_models

PROMPT = 'a <b>\nb'


@pytest.fixture(scope='session')
def letters():
  return small_models.letters()


@pytest.fixture(scope='session')
def prompted():
  """A model whose vocabulary is the 6 characters of `PROMPT`."""
  return small_models.random_model(
    PROMPT, seed=3, context_length=8, emb_dim=4, n_layers=2
  )


@pytest.fixture(scope='session')
def found(prompted):
  """The inspection of that model on `PROMPT`, 7 tokens."""
  from minigpt.analysis.introspection import inspect

  ids = prompted.tokenizer.encode(PROMPT)
  return inspect(ids, prompted.weights, prompted.config, k=4)
