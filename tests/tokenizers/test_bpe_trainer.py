"""Training merges the most frequent pairs, and is deterministic."""

import inspect
import re
import sys
import textwrap

import pytest

from minigpt.errors import InputError, UsageError
from minigpt.tokenizers import bpe_trainer

TEXT = inspect.getsource(textwrap)


def test_the_most_frequent_pair_is_merged_first():
  """Worked out by hand: 'ab' 5 times, ' ab' 4, then ' abc' twice."""
  tokenizer = bpe_trainer.train(['ab ab ab abc abc'], 260)
  assert tokenizer.tokens[:256] == [bytes([b]) for b in range(256)]
  merges = [b'ab', b' ab', b' abc']
  assert tokenizer.tokens[256:] == [*merges, b'<|endoftext|>']


def test_one_text_has_one_vocabulary():
  one = bpe_trainer.train([TEXT], 500, ['<|user|>'])
  again = bpe_trainer.train(iter([TEXT]), 500, ['<|user|>'])
  assert one.to_json() == again.to_json()
  assert one.vocab_size == 500
  assert one.tokens[-2:] == [b'<|endoftext|>', b'<|user|>']
  # A smaller vocabulary is the beginning of this one.
  small = bpe_trainer.train([TEXT], 400)
  assert small.tokens[:399] == one.tokens[:399]


def test_special_tokens_are_no_text_to_learn_from():
  text = 'ab<#>cd<#>' * 50
  merged = bpe_trainer.train([text], 260).tokens[256:259]
  assert b'<#>' in merged
  merged = bpe_trainer.train([text], 260, ['<#>'])
  assert sorted(merged.tokens[256:258]) == [b'ab', b'cd']
  lone = bpe_trainer.train(text, 260, '<#>')
  assert lone.to_json() == merged.to_json()


def test_no_token_is_longer_than_the_graph_can_merge():
  text = 'a' * 3000 + ' ' * 200_000 + 'xyz xyz xyz'
  tokenizer = bpe_trainer.train([text], 275)
  assert max(map(len, tokenizer.tokens)) == 128
  assert tokenizer.decode(tokenizer.encode(text)) == text


@pytest.mark.parametrize(
  ('text', 'size', 'error', 'fault'),
  [
    ('ab', 256, UsageError, 'between 257'),
    ('ab', 65537, UsageError, 'and 65536'),
    ('ab', None, UsageError, 'give --vocab_size'),
    ('abab', 300, InputError, 'fills a vocabulary of 259'),
    ('', 300, InputError, 'no text'),
    ('a\ud800', 300, InputError, 'lone surrogate'),
  ],
)
def test_bad_input_gets_one_line(text, size, error, fault):
  with pytest.raises(error, match=re.escape(fault)) as caught:
    bpe_trainer.train([text], size)
  assert '\n' not in str(caught.value)


def test_without_the_library_it_says_how_to_install_it(monkeypatch):
  monkeypatch.setitem(sys.modules, 'rustbpe', None)
  with pytest.raises(InputError, match=r"pip install 'minigpt\[bpe\]'"):
    bpe_trainer.train(['text'], 260)
