"""The programs whose times tell what a grammar costs."""

import helpers
import numpy as np
import pytest
import tensorflow as tf

from minigpt import tokenizers
from minigpt.generation import grammar, grammar_table


def test_both_programs_choose_a_token_one_of_them_by_the_grammar(monkeypatch):
  pytest.importorskip('outlines_core', reason='no outlines-core')
  monkeypatch.syspath_prepend(str(helpers.ROOT / 'benchmarks'))
  import grammar_cost

  tokenizer = tokenizers.build('char', 'a012')
  digits = grammar.Grammar('digits', '[0-9]{1,9}')
  table = grammar_table.build([digits], tokenizer)
  programs, state = grammar_cost.steps(table, n_rows=1)
  by_likelihood = tokenizer.encode('a201')
  logits = np.zeros([1, 4], np.float32)
  logits[0, by_likelihood] = [4, 3, 2, 1]
  plain, held = (f(tf.constant(logits), state)[0].numpy() for f in programs)
  assert tokenizer.decode(plain) == 'a'
  assert tokenizer.decode(held) == '2'
