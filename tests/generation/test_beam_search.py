"""Beam search and logits processors, compared with `transformers`."""

import dataclasses
import pathlib

import numpy as np
import pytest
import tensorflow as tf

from minigpt import tokenizers
from minigpt.checkpoints import huggingface
from minigpt.config import GPTConfig
from minigpt.errors import UsageError
from minigpt.generation import (
  beam_search,
  decode,
  logits_processors,
  sampling,
)
from minigpt.generation.generator import Generator
from minigpt.generation.request import Request
from minigpt.model.transformer import GPT
from minigpt.tokenizers.char import CharTokenizer

GOLDEN = pathlib.Path(__file__).parents[1] / 'golden'
NAMES = ('gpt2-wide', 'gpt2-untied', 'gpt2-deep')


@pytest.fixture(scope='module', params=NAMES)
def golden(request):
  pytest.importorskip('safetensors')
  want = np.load(GOLDEN / request.param / 'expected.npz')
  return *huggingface.read(GOLDEN / request.param), want


def find(golden, width, stop_token=None, prompts=None, rules=None):
  config, weights, want = golden
  prompts = want['prompts'] if prompts is None else prompts
  return search(tf.constant(prompts), weights, config, width, stop_token, rules)


@tf.function(autograph=False)
def search(prompts, weights, config, width, stop_token, rules):
  length = tf.fill([prompts.shape[0]], prompts.shape[1])
  state = decode.start(prompts, length, weights, config, 24)
  return beam_search.search(
    state, 16, 16, width, 1.0, weights, config, stop_token, rules
  )


def test_four_beams_are_those_of_transformers(golden):
  want = golden[2]
  found = find(golden, 4)
  np.testing.assert_array_equal(found.tokens, want['beams'][..., 4:])
  np.testing.assert_allclose(found.score, want['beams_scores'], rtol=1e-4)
  assert (found.n_tokens.numpy() == 16).all()


def test_four_beams_with_an_end_are_those_of_transformers(golden):
  want = golden[2]
  stop = int(want['stop'])
  found = find(golden, 4, stop)
  tokens = want['beams_stop'][..., 4:]  # as long as the longest
  np.testing.assert_array_equal(found.tokens[..., : tokens.shape[-1]], tokens)
  np.testing.assert_allclose(found.score, want['beams_stop_scores'], rtol=1e-4)
  for row, n in zip(
    tf.reshape(found.tokens, [-1, 16]).numpy(),
    found.n_tokens.numpy().reshape(-1),
    strict=True,
  ):
    assert (row[n - 1] == stop or n == 16) and (row[n:] == stop).all()


def test_one_beam_is_greedy(golden):
  found = find(golden, 1)
  greedy = golden[2]['greedy'][:, 4 : 4 + 16]
  np.testing.assert_array_equal(found.tokens[:, 0], greedy)


def test_rows_do_not_see_each_other(golden):
  alone = find(golden, 4, prompts=golden[2]['prompts'][1:])
  both = find(golden, 4)
  np.testing.assert_array_equal(alone.tokens[0], both.tokens[1])


def no_rules(n_rows, n_tokens):
  return logits_processors.Rules(
    repetition_penalty=tf.ones([n_rows]),
    min_new_tokens=tf.zeros([n_rows], tf.int32),
    bias=tf.zeros([n_rows, n_tokens]),
  )


def test_greedy_under_rules_is_that_of_transformers(golden):
  config, weights, want = golden
  bias = np.zeros([2, config.vocab_size], np.float32)
  bias[:, 3] = 2.0
  rules = logits_processors.Rules(tf.fill([2], 1.5), tf.fill([2], 10), bias)
  stop = int(want['stop'])
  greedy = sampling.greedy_sampling(2)

  @tf.function(autograph=False)
  def run(prompts):
    length = tf.fill([2], 4)
    state = decode.start(prompts, length, weights, config, 28)
    return decode.generate(state, 24, 24, greedy, weights, config, stop, rules)[
      1
    ]

  tokens = want['ruled'][:, 4:]
  found = run(want['prompts']).tokens.numpy()
  np.testing.assert_array_equal(found[:, : tokens.shape[1]], tokens)


# In the generator.


@pytest.fixture(scope='module')
def complete():
  pytest.importorskip('safetensors')
  config, weights = huggingface.read(GOLDEN / 'gpt2-wide')
  letters = ''.join(map(chr, range(40, 101)))
  weights = tf.nest.map_structure(tf.Variable, weights)
  return Generator(weights, config, tokenizers.build('char', letters))


GREEDY = Request(max_new_tokens=16, temperature=0.0)


def test_banned_strings_are_never_written(complete):
  [plain] = complete(['ABCD'], GREEDY)
  banned = plain[4:7]
  [text] = complete(
    ['ABCD'], dataclasses.replace(GREEDY, banned=(banned, '~~'))
  )
  assert banned not in text
  first = plain.index(banned) + len(banned) - 1
  assert text[:first] == plain[:first]


def test_a_strong_bias_decides(complete):
  bias = {5: 100.0}
  [text] = complete(['ABCD'], dataclasses.replace(GREEDY, logit_bias=bias))
  assert text == chr(45) * 16


def test_beams_of_the_generator_are_the_best_of_the_search(complete):
  want = np.load(GOLDEN / 'gpt2-wide' / 'expected.npz')
  prompts = [complete.tokenizer.decode(row) for row in want['prompts']]
  texts = complete(prompts, dataclasses.replace(GREEDY, num_beams=4))
  for text, row in zip(texts, want['beams'][:, 0, 4:], strict=True):
    assert text == complete.tokenizer.decode(row)


def test_no_penalty_makes_a_beam_lose_against_none(complete):
  prompts = ['ABCD', 'EFGH']
  request = dataclasses.replace(GREEDY, max_new_tokens=28, num_beams=4)
  usual = complete(prompts, request)
  # All beams have the same length, so no penalty changes their order.
  for penalty in (-5.0, 5.0):
    changed = dataclasses.replace(request, length_penalty=penalty)
    assert complete(prompts, changed) == usual


@pytest.mark.parametrize(
  ('change', 'message'),
  [
    ({'num_beams': 0}, 'num_beams=0: it must lie in'),
    ({'repetition_penalty': 0.0}, 'repetition_penalty=0.0: it must lie in'),
    ({'min_new_tokens': 17}, 'min_new_tokens=17: it must'),
    ({'banned': ('',)}, 'banned=.*: it must not be empty'),
    ({'logit_bias': {61: 1.0}}, 'logit_bias: token 61 is not one of the 61'),
    ({'num_beams': 4, 'max_new_tokens': 69}, 'beams cannot slide'),
  ],
)
def test_requests_that_make_no_sense(complete, change, message):
  with pytest.raises(UsageError, match=message):
    complete(['ABCD'], dataclasses.replace(GREEDY, **change))


def test_a_vocabulary_of_one_has_one_beam():
  config = GPTConfig(1, context_length=8, emb_dim=8, n_heads=2, n_layers=1)
  generator = Generator(
    GPT(config).params, config, CharTokenizer('a'), compile='graph'
  )
  request = Request(max_new_tokens=4, num_beams=3)
  assert generator(['aa'], request) == ['aaaa']
