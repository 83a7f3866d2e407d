"""In-graph tokenizers agree with the Python ones to the byte."""

import argparse
import functools
import inspect
import random

import hypothesis
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import strategies as st

from minigpt import tokenizers
from minigpt.errors import InputError
from minigpt.tokenizers import in_graph, word
from minigpt.tokenizers.char import CharTokenizer

KINDS = ['char', 'word', 'gpt2']
N_CODE_POINTS = 0x110000
EVERY_CHARACTER = ''.join(
  chr(code) for code in range(N_CODE_POINTS) if not 0xD800 <= code < 0xE000
)


@functools.cache
def tokenizer_of(kind):
  if kind == 'char':
    return CharTokenizer(EVERY_CHARACTER)
  try:
    return tokenizers.build(kind, inspect.getsource(argparse))
  except InputError as error:
    pytest.skip(str(error))


@functools.cache
def twin_of(kind):
  return tokenizer_of(kind).in_graph()


@functools.cache
def graph_of(kind):
  """The twin as a server runs it: text to ids, and the ids to text again."""
  twin = twin_of(kind)

  @tf.function(input_signature=[tf.TensorSpec([None], tf.string)])
  def graph(text):
    ids = twin.encode(text)
    lengths = tf.cast(ids.row_lengths(), tf.int32)
    return ids, twin.decode(ids.to_tensor(-1), lengths)

  return graph


def assert_twins_agree(kind, texts):
  """On `texts`, bytes, in one batch."""
  tokenizer = tokenizer_of(kind)
  ids, decoded = graph_of(kind)(tf.constant(texts, tf.string, [len(texts)]))
  assert ids.dtype == tf.int32
  expected = [tokenizer.encode(t.decode('utf-8', 'replace')) for t in texts]
  lengths = list(map(len, expected))
  assert ids.row_lengths().numpy().tolist() == lengths
  flat = np.concatenate([np.zeros([0], np.int32), *expected])
  wrong = np.flatnonzero(ids.flat_values.numpy() != flat)
  if wrong.size:
    row = np.searchsorted(np.cumsum(lengths), wrong[0], side='right')
    assert ids[row].numpy().tolist() == expected[row].tolist(), texts[row]
  assert decoded.numpy().tolist() == [
    tokenizer.decode_bytes(e) for e in expected
  ]


BLANKS = (
  ' \t\n\r\x0b\x0c\x1c\x1f\x85\xa0\u1680\u2003\u2028\u202f\u3000\u200b\ufeff'
)
RUNS = [b' ', b'\n', b'a', b'\x00', b'=', '\u2014'.encode()]
SNIPPETS = [
  *["'s", "'t", "'ll", "'re", "'VE", "''s", " 'd", "don't", '\u2019s', "'"],
  *[
    '\U0001f469\u200d\U0001f680',
    '\U0001f1e9\U0001f1ea',
    '\U0001f44d\U0001f3fd',
  ],
  *['def f(x):\n    return x**2\n', 'a += b;//', '<|endoftext|>', '{}[]()'],
  *[
    '3.14',
    '1,000',
    '\u00bd\u2167\u0663',
    'cafe\u0301',
    '\u6f22\u5b57',
    '\x00',
  ],
]
FRAGMENTS = st.one_of(
  st.text(st.characters(exclude_categories=['Cs']), max_size=4).map(str.encode),
  st.text(st.sampled_from("aeinst 'SL"), max_size=12).map(str.encode),
  st.text(st.sampled_from(BLANKS), max_size=4).map(str.encode),
  st.sampled_from(SNIPPETS).map(str.encode),
  st.builds(bytes.__mul__, st.sampled_from(RUNS), st.integers(0, 300)),
  st.binary(max_size=3),
)
N_FRAGMENTS, N_EXAMPLES = 60, 70


@pytest.mark.parametrize('kind', KINDS)
@hypothesis.given(
  fragments=st.lists(FRAGMENTS, min_size=N_FRAGMENTS, max_size=N_FRAGMENTS)
)
@hypothesis.settings(
  max_examples=N_EXAMPLES,
  deadline=None,
  derandomize=True,
  suppress_health_check=list(hypothesis.HealthCheck),
)
def test_twins_agree_on_any_text(kind, fragments):
  """On 70 * 60 * 5 = 21,000 texts, each of one to five fragments."""
  texts = [
    b''.join(fragments[start : start + length])
    for length in range(1, 6)
    for start in range(N_FRAGMENTS)
  ]
  assert_twins_agree(kind, texts)
