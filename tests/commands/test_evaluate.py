"""Perplexity, choices, last words and pairs; python -m minigpt evaluate."""

import functools
import importlib.util
import json
import math
import pathlib

import helpers
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given
from hypothesis import strategies as st

from minigpt import tokenizers
from minigpt.analysis import perplexity
from minigpt.analysis.perplexity import Continuation, Model
from minigpt.checkpoints import huggingface, workdir
from minigpt.config import GPTConfig
from minigpt.data.jsonl import Choice, Pair
from minigpt.errors import InputError
from minigpt.model import params
from minigpt.model.layers import cross_entropy
from minigpt.model.transformer import gpt

ROOT = pathlib.Path(__file__).parents[2]
GOLDEN = ROOT / 'tests' / 'golden'
LETTERS = '\n abcdefghij'
CONFIG = GPTConfig(
  vocab_size=12,
  context_length=20,
  emb_dim=8,
  n_heads=2,
  n_layers=1,
  init_std=0.5,
)


@pytest.fixture(scope='module')
def model():
  weights = params.init_params(CONFIG, seed=1)
  return Model(weights, CONFIG, tokenizers.build('char', LETTERS))


def golden_model(name):
  config, weights = huggingface.read(GOLDEN / name)
  letters = ''.join(map(chr, range(0x100, 0x100 + config.vocab_size)))
  return Model(
    tf.nest.map_structure(tf.Variable, weights),
    config,
    tokenizers.build('char', letters),
  )


# Running text.


@pytest.mark.parametrize('name', ['gpt2-wide', 'gpt2-untied', 'gpt2-deep'])
def test_perplexity_is_that_of_transformers(name):
  pytest.importorskip('safetensors')
  want = np.load(GOLDEN / name / 'expected.npz')
  model = golden_model(name)
  found = perplexity.running_text(
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
  found = perplexity.running_text(golden_model('gpt2-wide'), text, 71, 8)
  assert found['perplexity'] == pytest.approx(math.exp(loss), rel=1e-4)


# Scores of continuations.


def log_probs(model, tokens):
  """float [T - 1], of each token given all those before it."""
  tokens = np.asarray(tokens)
  logits = gpt(tokens[None, :-1], model.params, model.config)
  return -cross_entropy(logits, tokens[None, 1:]).numpy()[0]


def test_scores_are_those_of_each_text_alone(model):
  rng = np.random.default_rng(0)
  sizes = [(1, 1), (3, 4), (17, 4), (40, 20)]
  continuations = [
    Continuation('', rng.integers(12, size=n), rng.integers(12, size=m))
    for n, m in sizes
  ]
  found = perplexity.score(model, continuations)
  for (_, context, target), log_prob in zip(
    continuations, found.log_prob, strict=True
  ):
    tokens = np.concatenate([context, target])[-21:]
    want = log_probs(model, tokens)[-len(target) :].sum()
    assert log_prob == pytest.approx(want, rel=1e-4)


def test_greedy_means_every_token_is_the_likeliest(model):
  tokens = [1, 2]
  for _ in range(5):
    logits = gpt(np.array([tokens]), model.params, model.config)
    tokens.append(int(np.argmax(logits[0, -1])))
  right = np.array(tokens[2:])
  wrong = right.copy()
  wrong[2] = (wrong[2] + 1) % 12
  found = perplexity.score(
    model, [Continuation('', np.array([1, 2]), t) for t in (right, wrong)]
  )
  assert found.is_greedy.tolist() == [True, False]


def test_an_ending_longer_than_the_context_is_named(model):
  long = Continuation('f.jsonl, line 3', np.array([1]), np.ones(21, np.int32))
  with pytest.raises(InputError, match='line 3: its ending has 21'):
    perplexity.score(model, [long])


def test_choices_by_sum_and_by_length(model, monkeypatch):
  scores = perplexity.Scores(np.array([-3.0, -4, -6, -2, -3]), None)
  monkeypatch.setattr(perplexity, 'score', lambda *_: scores)
  choices = [
    Choice('', 'a', ('b', 'bcd'), 1),  # -3 > -4, but -3 / 2 < -4 / 4
    Choice('', 'a', ('bb', 'cc', 'dd'), 1),
  ]
  assert perplexity.multiple_choice(model, choices) == {
    'accuracy': 0.5,
    'accuracy_norm': 1.0,
    'examples': 2,
  }


def test_last_words(model, monkeypatch):
  scores = perplexity.Scores(np.array([-1.0, -3.0]), np.array([True, False]))
  seen = []
  monkeypatch.setattr(
    perplexity, 'score', lambda m, c, w: seen.extend(c) or scores
  )
  found = perplexity.last_word(model, [Pair('', 'a b', ' c')] * 2)
  assert found['accuracy'] == 0.5
  assert found['perplexity'] == pytest.approx(math.exp(2))
  assert model.tokenizer.decode(seen[0].context) == 'a b'
  assert model.tokenizer.decode(seen[0].target) == ' c'


# Pairs.


def slow_distance(a, b):
  @functools.cache
  def distance(i, j):
    if not (i and j):
      return i + j
    return min(
      distance(i - 1, j) + 1,
      distance(i, j - 1) + 1,
      distance(i - 1, j - 1) + (a[i - 1] != b[j - 1]),
    )

  return distance(len(a), len(b))


@given(st.text('abc', max_size=9), st.text('abc', max_size=9))
def test_edit_distance_is_the_recursion(a, b):
  assert perplexity.edit_distance(a, b) == slow_distance(a, b)


def test_character_error_rate_weighs_texts_by_their_length():
  found = perplexity.character_error_rate(['kitten', 'a'], ['sitting', 'a'])
  assert found == 3 / 8


def test_completions_are_greedy_up_to_the_end_of_the_line(model):
  prompts = ['a', 'bc', 'dead', 'ahab', 'jjjj'] * 8
  pairs = [Pair('', prompt, 'abc') for prompt in prompts]
  found = perplexity.completions(model, pairs)
  for prompt, text in zip(prompts[:5], found[:5], strict=True):
    tokens = model.tokenizer.encode(prompt).tolist()
    for _ in range(3 + 16):
      logits = gpt(np.array([tokens[-20:]]), model.params, model.config)
      tokens.append(int(np.argmax(logits[0, -1])))
      if len(tokens) == 20:
        break
    want = model.tokenizer.decode(np.array(tokens[len(prompt) :]))
    want = want.split('\n')[0]
    assert text[: len(want)] == want
    assert '\n' not in text
  assert found[:5] * 8 == found


# The program.


def evaluate(**flags):
  flags = [f'--{name}={value}' for name, value in flags.items()]
  return helpers.run('-m', 'minigpt', 'evaluate', *flags)


def test_the_program_prints_and_records(tmp_path, model):
  run = tmp_path / 'run'
  workdir.write(run, *model._replace(params=model.config, config=model.params))
  text = 'a bad cab\nfeed a bee'
  (tmp_path / 'text.txt').write_text(text)
  flags = dict(workdir=run, dataset=tmp_path / 'text.txt', json=True)
  result = evaluate(window=10, stride=5, **flags)
  assert result.returncode == 0, result.stderr
  found = json.loads(result.stdout)
  want = perplexity.running_text(model, model.tokenizer.encode(text), 10, 5)
  assert found['loss'] == pytest.approx(want['loss'], rel=1e-5)
  assert found['checkpoint'] == 'step-00000000'
  lines = (run / 'evaluations.jsonl').read_text().splitlines()
  assert [json.loads(line) for line in lines] == [found]
  refused = evaluate(stride=21, **flags)
  assert refused.returncode == 2
  assert 'stride=21: it must lie in [1, 20]' in refused.stderr
  assert len((run / 'evaluations.jsonl').read_text().splitlines()) == 1
