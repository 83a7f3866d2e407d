"""Special tokens that cannot be confused."""

import re

import pytest

from minigpt.errors import UsageError
from minigpt.tokenizers import special


@pytest.mark.parametrize(
  ('tokens', 'fault'),
  [
    ([''], 'is empty'),
    (['<a>', '<b>', '<a>'], "'<a>' comes twice"),
    (['<|endoftext|>'], 'comes twice'),
    (['<a b>'], 'white space'),
    (['<\ud800>'], 'lone surrogate'),
    (['<user>', 'user'], "'<user>' and 'user' can overlap"),
    (['<a>x', 'x<b>'], "'<a>x' and 'x<b>' can overlap"),
    (['##'], "'##' and '##' can overlap"),
    ([f'<{i}>' for i in range(65)], '65 special tokens'),
  ],
)
def test_what_cannot_be_told_apart_is_refused(tokens, fault):
  with pytest.raises(UsageError, match=re.escape(fault)):
    special.check(tokens)


def test_usual_names_are_accepted():
  special.check(['<|user|>', '<|assistant|>', '</s>', '[INST]', '\u2581x'])


def test_text_is_split_at_the_tokens():
  pattern = special.pattern(['<a>', '[.*]'])
  assert pattern.split('x<a>[.*]y') == ['x', '<a>', '', '[.*]', 'y']
  assert special.pattern([]) is None
