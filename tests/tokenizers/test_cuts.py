"""Cutting a text does not change its tokens."""

import itertools
import random

import numpy as np
import pytest

from minigpt import tokenizers
from minigpt.tokenizers import byte_pairs, cuts

SPECIAL = ['<|user|>', '\u4e2d\u3002', 'ab.']
# Words, marks and white space of several scripts, and what they are made of.
SNIPPETS = [
  *["don't", "'ll ", "'s", "'", '\u2019', 'a', 'b', '.', '_', '3.14', '1,000'],
  *[' ', '  ', '\n', '\r\n', '\r', '\t', '\u3000', '\u00a0', '\u2028', '\x1c'],
  *['\u4e2d\u6587', '\u3002', '\u300c', '\u3053\u3093', '\u30a2\u30fb\uff01'],
  *['\u0e17\u0e35\u0e48', '\u0e01', '\u0915\u093f', '\u05e9\u05dc', '\u061f'],
  *['caf\u00e9', 'e\u0301', '\U0001f469\u200d\U0001f680', '\u00bd', '{}[]()'],
  *SPECIAL,
  *['<|', 'user|', '|>', 'ab'],
]


def texts(n, seed):
  random.seed(seed)
  return [
    ''.join(random.choices(SNIPPETS, k=random.randint(1, 12))) for _ in range(n)
  ]


@pytest.fixture(scope='module', params=['char', 'word', 'gpt2', 'bpe'])
def tokenizer(request):
  if request.param == 'gpt2':
    return request.getfixturevalue('gpt2_tokenizer')
  if request.param == 'bpe':
    pytest.importorskip('rustbpe')
    return tokenizers.build('bpe', '\n'.join(texts(3000, 1)), 700, SPECIAL)
  return tokenizers.build(request.param, '\n'.join(texts(500, 1)))


def parts_of(tokenizer, text):
  """Returns the text, cut at each place of any kind."""
  found = {m.end() for cut in tokenizer.cuts for m in cut.finditer(text)}
  ends = [0, *sorted(found), len(text)]
  return [text[a:b] for a, b in itertools.pairwise(ends)]


def test_parts_have_the_tokens_of_the_whole(tokenizer):
  n_parts = 0
  for text in texts(1500, 2):
    parts = parts_of(tokenizer, text)
    n_parts += len(parts)
    ids = np.concatenate([tokenizer.encode(part) for part in parts])
    np.testing.assert_array_equal(ids, tokenizer.encode(text))
    # Reading turns the two into one line feed.
    for before, after in itertools.pairwise(parts):
      assert not (before.endswith('\r') and after.startswith('\n'))
  assert n_parts > 4000


@pytest.mark.parametrize(
  ('kind', 'parts'),
  [
    ('char', ['\u4e2d', '\u6587', '\r\n', '\u6587']),
    ('word', ['\u4e2d\u6587', "\u3002\u4e2d's\u6587"]),
    ('gpt2', ['\u4e2d\u6587', '\u3002\u300d\u6587']),
    ('gpt2', ['\u0e17', '\u0e35\u0e48\u0e01']),
    ('gpt2', ['\u0e17', '\u3000 \u0e01']),
    ('gpt2', ['3', '.1415', ' 9']),
    ('gpt2', ['\u4e2d\u6587\u5b57']),
  ],
)
def test_text_without_blanks_is_cut_before_marks(kind, parts, request):
  if kind == 'gpt2':
    tokenizer = request.getfixturevalue('gpt2_tokenizer')
  else:
    tokenizer = tokenizers.build(kind, ''.join(parts))
  assert parts_of(tokenizer, ''.join(parts)) == parts


def test_special_tokens_are_not_cut():
  [_, others] = byte_pairs.cuts(['<|user|>'])
  assert [m.end() for m in others.finditer('a<|user|>b.')] == [1, 10]


def test_a_better_place_is_taken_where_it_is_near(monkeypatch):
  monkeypatch.setattr(cuts, '_NEAR', 8)
  found = byte_pairs.cuts()
  text = 'a.b.c d.e.f' + 9 * '.gh'
  assert cuts.first(found, text) == 5
  assert cuts.first(found, text, 2) == 5
  assert cuts.first(found, text, 6) == 7
  assert cuts.last(found, text) == len(text) - 3
  assert cuts.last(found, 'a.b c.d') == 3
  assert cuts.last(found, 'a b' + 'c' * 99) == 1
  assert cuts.first(found, 'abc', 1) == cuts.last(found, 'abc') == 0
