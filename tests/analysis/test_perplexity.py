"""Perplexity, compared with `transformers` through tests/golden."""

import importlib.util
import math

import helpers
import numpy as np
import pytest
import tensorflow as tf

from minigpt import tokenizers
from minigpt.analysis import perplexity
from minigpt.checkpoints import huggingface
from minigpt.checkpoints.loading import LoadedModel
from minigpt.config import GPTConfig
from minigpt.model.layers import cross_entropy
from minigpt.model.params import init_params
from minigpt.model.transformer import gpt

GOLDEN = helpers.ROOT / 'tests' / 'golden'


def golden_model(name):
  config, weights = huggingface.read(GOLDEN / name)
  letters = ''.join(map(chr, range(0x100, 0x100 + config.vocab_size)))
  return LoadedModel(
    config,
    tf.nest.map_structure(tf.Variable, weights),
    tokenizers.build('char', letters),
  )


@pytest.mark.parametrize('name', ['gpt2-wide', 'gpt2-untied', 'gpt2-deep'])
def test_perplexity_is_that_of_transformers(name):
  pytest.importorskip('safetensors')
  want = np.load(GOLDEN / name / 'expected.npz')
  model = golden_model(name)
  found = perplexity.evaluate_text(
    model, want['text'], model.config.context_length - 1, stride=8
  )
  assert found['loss'] == pytest.approx(want['loss'], rel=1e-5)
  assert found['perplexity'] == pytest.approx(np.exp(want['loss']), rel=1e-4)
  assert found['tokens'] == 299
  # Every character of this vocabulary takes two bytes.
  bits = want['loss'] / math.log(2) / 2
  assert found['bits_per_byte'] == pytest.approx(bits, rel=1e-5)


def test_perplexity_is_that_of_the_transformers_here():
  transformers = pytest.importorskip('transformers')
  torch = pytest.importorskip('torch')
  path = GOLDEN / 'make_gpt2.py'
  spec = importlib.util.spec_from_file_location('make_gpt2', path)
  make_gpt2 = importlib.util.module_from_spec(spec)
  spec.loader.exec_module(make_gpt2)
  theirs = transformers.GPT2LMHeadModel.from_pretrained(GOLDEN / 'gpt2-wide')
  text = np.random.default_rng(1).integers(61, size=150)
  with torch.no_grad():
    loss = make_gpt2.sliding_loss(theirs.eval(), torch.tensor(text))
  found = perplexity.evaluate_text(golden_model('gpt2-wide'), text, 71, 8)
  assert found['perplexity'] == pytest.approx(math.exp(loss), rel=1e-4)


# Bytes. 'a', ' ' and 'b' are 0 to 2; two bytes of U+00E4 are 3.
WORDS = ['a', ' ', 'b', '\u00e4', '<|unk|>', '<|eos|>']


def word_model():
  tokenizer = tokenizers.word.WordTokenizer(WORDS)
  config = GPTConfig(6, 8, 8, 2, 1)
  return LoadedModel(config, init_params(config), tokenizer)


def test_the_end_of_a_text_is_no_text():
  model = word_model()
  tokens = np.array([0, 1, 3, 5, 2, 5])
  found = perplexity.evaluate_text(model, tokens, 8, 8)
  # A space, two bytes and a letter, of five tokens with a loss.
  assert (found['tokens'], found['bytes']) == (5, 4)
  bits = found['loss'] * 5 / math.log(2)
  assert found['bits_per_byte'] == pytest.approx(bits / 4)


def test_positions_have_the_sums_of_their_tokens():
  model = word_model()
  tokens = np.array([0, 1, 3, 2, 1, 0])
  found, sums = perplexity.evaluate_positions(model, tokens, 3, 3)
  # Two windows; the second is cut short.
  assert sums.n_tokens.tolist() == [2, 2, 1]
  loss = np.zeros(6)
  for first in (0, 3):
    ids = tokens[None, first : first + 4]
    logits = gpt(ids[:, :-1], model.weights, model.config)
    loss[first : first + ids.shape[1] - 1] = cross_entropy(logits, ids[:, 1:])
  by_window = loss.reshape(2, 3)
  assert sums.loss == pytest.approx(by_window.sum(0), rel=1e-5)
  assert sums.squared_loss == pytest.approx((by_window**2).sum(0), rel=1e-5)
  assert found['loss'] == pytest.approx(loss.sum() / 5, rel=1e-5)
  assert found['accuracy'] == sums.hits.sum() / 5


def test_unknown_words_count_as_the_bytes_that_they_have():
  model = word_model()
  text = 'a unknown\u00e4 b'
  tokens = model.tokenizer.encode(text)
  assert tokens.tolist() == [0, 1, 4, 1, 2]
  sizes = model.tokenizer.token_sizes(text)
  assert sizes.tolist() == [1, 1, 9, 1, 1]
  found = perplexity.evaluate_text(model, tokens, 8, 8, n_bytes=sum(sizes[1:]))
  bits = found['loss'] * 4 / math.log(2)
  assert found['bits_per_byte'] == pytest.approx(bits / 12)


def test_without_the_text_nobody_can_tell_how_long_unknown_words_are():
  model = word_model()
  found = perplexity.evaluate_text(model, np.array([0, 1, 4]), 8, 8)
  assert found['bytes'] is found['bits_per_byte'] is None
  assert found['loss'] > 0
  # Except for the first token, which is not scored.
  assert perplexity.count_bytes(model.tokenizer, np.array([4, 1]), 1) == 1
