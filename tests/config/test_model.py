"""Sizes that follow from the config's fields."""

import dataclasses
import itertools

import pytest

from minigpt.config import GPTConfig
from minigpt.model.params import count, specs

SMALL = GPTConfig(11, 6, 8, 2, 3, vocab_padding=5, mlp_ratio=3)


@pytest.mark.parametrize(
  'flags', list(itertools.product([False, True], repeat=3)), ids=str
)
def test_parameters_are_counted_as_they_are_laid_out(flags):
  names = ('qkv_bias', 'bias', 'tie_embeddings')
  config = dataclasses.replace(SMALL, **dict(zip(names, flags, strict=True)))
  assert config.n_parameters == count(specs(config))


def test_parameters_of_any_number_of_layers_are_counted_at_once():
  assert GPTConfig(n_layers=10**9).n_parameters > 7 * 10**15
