"""Multiple choice, last words and completions, checked by hand."""

import math

import numpy as np
import pytest

from minigpt.analysis import tasks
from minigpt.analysis.scoring import Scores
from minigpt.data.jsonl import Choice, Pair
from minigpt.model.transformer import gpt


def test_choices_by_sum_and_by_length(letters, monkeypatch):
  scores = Scores(np.array([-3.0, -4, -6, -2, -3, -2, -5]), None)
  monkeypatch.setattr(tasks, 'score', lambda *_: scores)
  choices = [
    Choice('', 'a', ('b', 'bcd'), 1),  # -3 > -4, but -3 / 1 < -4 / 3
    Choice('', 'a', ('bb', 'cc', 'dd'), 1),
    # The space before an ending does not count: -2 / 2 > -5 / 4.
    Choice('', 'a', ('b', 'bcd'), 1),  # -2 > -5, but -2 / 1 < -5 / 3
  ]
  assert tasks.multiple_choice(letters, choices) == {
    'accuracy': 1 / 3,
    'accuracy_norm': 1.0,
    'chance': 4 / 9,
    'examples': 3,
  }


def test_last_words(letters, monkeypatch):
  scores = Scores(np.array([-1.0, -3.0]), np.array([True, False]))
  seen = []
  monkeypatch.setattr(tasks, 'score', lambda m, c, w: seen.extend(c) or scores)
  found = tasks.last_word(letters, [Pair('', 'a b', ' c')] * 2)
  assert found['accuracy'] == 0.5
  assert found['perplexity'] == pytest.approx(math.exp(2))
  assert letters.tokenizer.decode(seen[0].context) == 'a b'
  assert letters.tokenizer.decode(seen[0].target) == ' c'


def test_completions_are_greedy_up_to_the_end_of_the_line(letters):
  prompts = ['a', 'bc', 'dead', 'ahab', 'jjjj'] * 8
  pairs = [Pair('', prompt, 'abc') for prompt in prompts]
  found = tasks.complete_greedily(letters, pairs)
  for prompt, text in zip(prompts[:5], found[:5], strict=True):
    tokens = letters.tokenizer.encode(prompt).tolist()
    for _ in range(3 + 16):
      logits = gpt(np.array([tokens[-20:]]), letters.weights, letters.config)
      tokens.append(int(np.argmax(logits[0, -1])))
      if len(tokens) == 20:
        break
    want = letters.tokenizer.decode(np.array(tokens[len(prompt) :]))
    want = want.split('\n')[0]
    assert text[: len(want)] == want
    assert '\n' not in text
  assert found[:5] * 8 == found


def test_an_empty_context_is_the_boundary_before_it(letters):
  empty, line = (
    tasks.last_word(letters, [Pair('', context, 'abc')])
    for context in ('', '\n')
  )
  assert empty == line
