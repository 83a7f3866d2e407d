"""Scores of continuations, compared with the model on each text alone."""

import numpy as np
import pytest

from minigpt.analysis import scoring
from minigpt.analysis.scoring import Continuation
from minigpt.errors import InputError
from minigpt.model.layers import cross_entropy
from minigpt.model.transformer import gpt


def log_probs(model, tokens):
  """Log-probability of each token given those before it, float [T - 1]."""
  tokens = np.asarray(tokens)
  logits = gpt(tokens[None, :-1], model.weights, model.config)
  return -cross_entropy(logits, tokens[None, 1:]).numpy()[0]


def test_scores_are_those_of_each_text_alone(letters):
  rng = np.random.default_rng(0)
  sizes = [(1, 1), (3, 4), (17, 4), (40, 20)]
  continuations = [
    Continuation('', rng.integers(12, size=n), rng.integers(12, size=m))
    for n, m in sizes
  ]
  found = scoring.score(letters, continuations)
  for (_, context, target), log_prob in zip(
    continuations, found.log_prob, strict=True
  ):
    tokens = np.concatenate([context, target])[-21:]
    want = log_probs(letters, tokens)[-len(target) :].sum()
    assert log_prob == pytest.approx(want, rel=1e-4)


def test_greedy_means_every_token_is_the_most_likely(letters):
  tokens = [1, 2]
  for _ in range(5):
    logits = gpt(np.array([tokens]), letters.weights, letters.config)
    tokens.append(int(np.argmax(logits[0, -1])))
  right = np.array(tokens[2:])
  wrong = right.copy()
  wrong[2] = (wrong[2] + 1) % 12
  found = scoring.score(
    letters, [Continuation('', np.array([1, 2]), t) for t in (right, wrong)]
  )
  assert found.is_greedy.tolist() == [True, False]


def test_an_ending_longer_than_the_context_is_named(letters):
  long = Continuation('f.jsonl, line 3', np.array([1]), np.ones(21, np.int32))
  with pytest.raises(InputError, match='line 3: its ending has 21'):
    scoring.score(letters, [long])
