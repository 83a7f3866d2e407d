"""Tokenizers in a graph agree with the Python ones, byte for byte."""

import argparse
import functools
import inspect
import random
import re

import hypothesis
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import strategies as st

from minigpt import tokenizers
from minigpt.errors import InputError
from minigpt.tokenizers import in_graph_base, word
from minigpt.tokenizers.char import CharTokenizer

KINDS = ['char', 'word', 'gpt2', 'bpe']
SPECIAL = ['<|user|>', '<|assistant|>', '\u00ab\u00bb']
N_CODE_POINTS = 0x110000
EVERY_CHARACTER = ''.join(
  chr(code) for code in range(N_CODE_POINTS) if not 0xD800 <= code < 0xE000
)


@functools.cache
def tokenizer_of(kind):
  if kind == 'char':
    return CharTokenizer(EVERY_CHARACTER)
  text = inspect.getsource(argparse)
  try:
    if kind == 'bpe':
      return tokenizers.build(kind, text, 1000, SPECIAL)
    return tokenizers.build(kind, text)
  except InputError as error:
    pytest.skip(str(error))


@functools.cache
def twin_of(kind):
  return tokenizer_of(kind).in_graph()


@functools.cache
def graph_of(kind):
  """Returns a graph of the twin: text to ids, and the ids to text again."""
  twin = twin_of(kind)

  @tf.function(
    input_signature=[tf.TensorSpec([None], tf.string)], autograph=False
  )
  def graph(text):
    ids = twin.encode(text)
    lengths = tf.cast(ids.row_lengths(), tf.int32)
    return ids, twin.decode(ids.to_tensor(-1), lengths)

  return graph


@functools.cache
def tiny_shakespeare():
  tfds = pytest.importorskip('tensorflow_datasets')
  try:
    splits = tfds.load('tiny_shakespeare', download=False, split='all')
  except AssertionError:
    pytest.skip('tiny_shakespeare is not prepared in TFDS_DATA_DIR')
  return b''.join(example['text'] for example in tfds.as_numpy(splits))


def assert_twins_agree(kind, texts):
  """Compares both tokenizers on `texts`, bytes, in one batch."""
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
  st.sampled_from([*SPECIAL, '<|user', '|>']).map(str.encode),
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
  """Tries 70 * 60 * 5 = 21,000 texts, each of one to five fragments."""
  texts = [
    b''.join(fragments[start : start + length])
    for length in range(1, 6)
    for start in range(N_FRAGMENTS)
  ]
  assert_twins_agree(kind, texts)


@pytest.mark.parametrize('kind', KINDS)
def test_twins_agree_on_batches_with_nothing_in_them(kind):
  assert_twins_agree(kind, [])
  assert_twins_agree(kind, [b''])
  assert_twins_agree(kind, [b'', b'a', b'', b"'", b' ', b''])


def test_twins_know_every_character_for_what_it_is():
  """The kind of a character depends on the version of Unicode.

  It shows next to other characters: a contraction needs a letter, a number or
  white space before it.
  """
  assigned = EVERY_CHARACTER[:0x33000]  # and none above is a letter
  text = ''.join(f"a{character}1{character}'s" for character in assigned)
  batch = tf.constant([text.encode()])
  pieces, n_pieces = twin_of('word').split(batch)
  expected = [piece.encode() for piece in re.findall(word.PIECE, text)]
  assert n_pieces.numpy() == [len(expected)]
  assert pieces.numpy().tolist() == expected
  ids = twin_of('gpt2').encode(batch).flat_values
  np.testing.assert_array_equal(ids, tokenizer_of('gpt2').encode(text))


@pytest.mark.parametrize('kind', KINDS)
def test_twins_agree_on_tiny_shakespeare(kind):
  text = tiny_shakespeare()
  assert len(text) == 1_115_394
  assert_twins_agree(kind, [text])
  assert_twins_agree(kind, text.splitlines(keepends=True))


@pytest.mark.parametrize('kind', KINDS)
def test_twins_agree_on_source_code(kind):
  modules = [argparse, hypothesis, inspect, random, tf.nn]
  assert_twins_agree(kind, [inspect.getsource(m).encode() for m in modules])


def long_words():
  rng = random.Random(0)
  letters = ''.join(rng.choices('abcdefghijklmnopqrstuvwxyz', k=20_000))
  han = ''.join(chr(rng.randrange(0x4E00, 0xA000)) for _ in range(5000))
  runs = [
    unit * 10_000
    for unit in ['a', ' ', '\n', '=', 'ab', '\x00', '\u00c3\u00c2']
  ]
  return [letters, han, *runs, ' ' * 9999 + 'x', 'a' * 9999 + 'b', '-' * 129]


@pytest.mark.parametrize('kind', KINDS)
def test_twins_agree_on_very_long_words(kind):
  """They need more rounds of merges than real words, and odd runs."""
  assert_twins_agree(kind, [text.encode() for text in long_words()])


def test_apostrophes_of_contractions_and_others():
  texts = ["'s", "x's", "!'s", " 's", "\n's", "''s", "'s's", "'sa", "'lla"]
  texts += ["'l", "'l l", "'LL", "1'd", "'ve're", "'v", "'", "' s", '\u2019s']
  assert_twins_agree('gpt2', [text.encode() for text in texts])
  assert_twins_agree('word', [text.encode() for text in texts])
  # A text's last apostrophe must not join the next text's letter.
  assert_twins_agree('gpt2', [b"it'", b's', b"it'l", b'l', b' ', b'a', b' '])


@pytest.mark.parametrize('kind', KINDS)
def test_a_row_does_not_depend_on_its_neighbours(kind):
  twin = twin_of(kind)
  texts = [b"it'", b"s '", b'll ', b'', b'  ', b'aaaaaaa', b'aaa']
  together = twin.encode(tf.constant(texts)).to_list()
  alone = [twin.encode(tf.constant([text])).to_list()[0] for text in texts]
  assert together == alone


def test_decode_reads_only_what_lengths_say():
  twin = CharTokenizer('abc').in_graph()
  ids = tf.constant([[0, 1, 2], [2, -1, 99], [7, 7, 7]])
  text = twin.decode(ids, tf.constant([3, 1, 0]))
  assert text.numpy().tolist() == [b'abc', b'c', b'']
  nothing = twin.decode(tf.zeros([2, 0], tf.int32), tf.constant([0, 0]))
  assert nothing.numpy().tolist() == [b'', b'']


def test_decode_refuses_ids_outside_the_vocabulary():
  twin = CharTokenizer('abc').in_graph()
  for bad in [-1, 3]:
    with pytest.raises(tf.errors.InvalidArgumentError, match=f'= {bad} '):
      twin.decode(tf.constant([[bad]]), tf.constant([1]))


def test_decode_keeps_cut_characters_and_replacement_is_pythons():
  tokenizer, twin = tokenizer_of('gpt2'), twin_of('gpt2')
  ids = tokenizer.encode('ab\U0001f680')[:-1]
  text = twin.decode(ids[None], [len(ids)])
  assert text.numpy()[0] == 'ab\U0001f680'.encode()[:-1]
  replaced = in_graph_base.replace_invalid_utf8(text).numpy()[0]
  assert replaced.decode() == tokenizer.decode(ids) == 'ab\ufffd'


@hypothesis.given(st.lists(st.binary(max_size=8), min_size=50, max_size=80))
@hypothesis.settings(max_examples=40, deadline=None, derandomize=True)
def test_invalid_utf8_is_replaced_as_python_does(texts):
  replaced = (
    in_graph_base.replace_invalid_utf8(tf.constant(texts)).numpy().tolist()
  )
  assert replaced == [t.decode('utf-8', 'replace').encode() for t in texts]


def test_check_utf8_names_field_and_row():
  in_graph_base.check_utf8(
    tf.constant([b'', '\ufffd\ufeff'.encode(), b'\x00']), 'x'
  )
  in_graph_base.check_utf8(tf.zeros([0], tf.string), 'x')
  with pytest.raises(
    tf.errors.InvalidArgumentError, match='prompt: invalid UTF-8 in row 1'
  ):
    in_graph_base.check_utf8(tf.constant([b'a', b'\xff', b'\xff']), 'prompt')


class Exported(tf.Module):
  """A twin with one signature, as in an export."""

  def __init__(self, twin):
    super().__init__()
    self.twin = twin

  @tf.function(
    input_signature=[tf.TensorSpec([None], tf.string, 'prompt')],
    autograph=False,
  )
  def serve(self, prompt):
    ids = self.twin.encode(prompt, 'prompt')
    lengths = tf.cast(ids.row_lengths(), tf.int32)
    tokens = ids.to_tensor(-1)
    text = self.twin.decode(tokens, lengths)
    return {'tokens': tokens, 'lengths': lengths, 'text': text}


@pytest.fixture(scope='module')
def saved_at(tmp_path_factory):
  @functools.cache
  def save(kind):
    tokenizer = (
      tokenizers.build('char', MIXED) if kind == 'char' else tokenizer_of(kind)
    )
    path = str(tmp_path_factory.mktemp(kind))
    module = Exported(tokenizer.in_graph())
    tf.saved_model.save(module, path, {'serving_default': module.serve})
    return tokenizer, path

  return save


MIXED = "Don't  stop\r\n na\u00efve \U0001f469\u200d\U0001f680\x00 12\u00bd'll"


def assert_exports(tokenizer, result):
  ids = tokenizer.encode(MIXED)
  assert list(result['lengths']) == [len(ids), 0]
  assert list(result['tokens'][0]) == list(ids)
  assert list(result['text']) == [tokenizer.decode_bytes(ids), b'']


@pytest.mark.parametrize('kind', KINDS)
def test_saved_model_carries_the_twin(kind, saved_at):
  tokenizer, path = saved_at(kind)
  loaded = tf.saved_model.load(path)
  result = loaded.signatures['serving_default'](tf.constant([MIXED, '']))
  assert_exports(tokenizer, {k: v.numpy() for k, v in result.items()})


@pytest.mark.parametrize('kind', KINDS)
def test_saved_model_runs_in_a_session_as_in_the_server(kind, saved_at):
  tokenizer, path = saved_at(kind)
  v1 = tf.compat.v1
  with v1.Session(graph=tf.Graph()) as session:
    graph = v1.saved_model.loader.load(session, ['serve'], path)
    signature = graph.signature_def['serving_default']
    prompt = signature.inputs['prompt'].name
    names = {k: output.name for k, output in signature.outputs.items()}
    result = session.run(names, {prompt: [MIXED.encode(), b'']})
    assert_exports(tokenizer, result)
    if kind == 'char':
      with pytest.raises(tf.errors.InvalidArgumentError, match='prompt: char'):
        session.run(names, {prompt: ['\u6f22'.encode()]})
    assert_exports(
      tokenizer, session.run(names, {prompt: [MIXED.encode(), b'']})
    )
