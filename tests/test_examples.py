"""The examples: their data, their commands and their metrics."""

import json
import random
import re
import shlex

import helpers
import numpy as np
import pytest
import tensorflow as tf

from examples.code import check as code
from examples.ngram import NGram
from examples.queries import check as queries
from examples.queries import grammar, make_queries
from examples.spelling import compare, make_pairs
from minigpt.checkpoints import loading, workdir
from minigpt.config import GPTConfig
from minigpt.generation import regex_automaton
from minigpt.model import params
from minigpt.tokenizers.char import CharTokenizer

ROOT = helpers.ROOT


def train_commands(example, runs):
  """Returns the flags of each `train` in an example's script."""
  script = (ROOT / 'examples' / example / 'run.sh').read_text('utf-8')
  script = script.replace('\\\n', '').replace('$runs', str(runs))
  return [
    shlex.split(line.partition('train.py')[2])
    for line in script.splitlines()
    if 'train.py' in line
  ]


def describe(argv):
  """Returns the description of a run, with --dry_run."""
  assert helpers.run_here('train', *argv, '--dry_run') == 0


def test_misspelling_is_one_slip_of_a_finger():
  rng = random.Random(0)
  typed = {make_pairs.mistype('bag', rng) for _ in range(500)}
  assert typed == {
    *('abg', 'bga'),
    *('ag', 'bg'),
    *('bbag', 'baag'),
    *('vag', 'nag', 'bsg'),
  }


def test_commonest_words_are_those_of_plain_prose():
  texts = ['Return words, not __name__ or a.name.', 'words: see some_name, see']
  assert make_pairs.commonest(texts, 1) == ['words']
  assert 'name' not in make_pairs.commonest(texts, 9)


@pytest.fixture(scope='module')
def spelling(tmp_path_factory):
  """The data of a toy-sized run, and a base model for it."""
  runs = tmp_path_factory.mktemp('spelling')
  known = ['return', 'chain', 'found', 'interactively']
  data = make_pairs.make(known, ['word'], repeats=20)
  (runs / 'data').mkdir()
  (runs / 'data/words.txt').write_text(data.text)
  for name in ('train', 'test'):
    lines = make_pairs.json_lines(getattr(data, name))
    (runs / f'data/{name}.jsonl').write_text(lines)
  tokenizer = CharTokenizer('\n abcdefghijklmnopqrstuvwxyz')
  config = GPTConfig(28, 79, 8, 2, 1, drop_rate=0.0)
  workdir.write(runs / 'words', config, params.init_params(config), tokenizer)
  return runs, data


def test_no_misspelt_pair_is_both_in_training_and_test(spelling):
  _, data = spelling
  both = set(data.train) & set(data.test)
  assert all(pair.typed == pair.word for pair in both)
  assert len(data.test) == 1000 and {p.word for p in data.unknown} == {'word'}


def test_all_prompts_are_equally_long(spelling):
  runs, _ = spelling
  lines = (runs / 'data/test.jsonl').read_text().splitlines()
  assert {len(json.loads(line)['prompt']) for line in lines} == {16}


def test_the_commands_of_the_spelling_example_are_accepted(spelling, capsys):
  base, pairs = train_commands('spelling', spelling[0])
  describe(base)
  assert 'char' in capsys.readouterr().out
  describe(pairs)
  assert '1 x 2 heads of 4' in capsys.readouterr().out


def test_what_was_found_is_set_beside_what_was_typed(
  tmp_path, capsys, monkeypatch
):
  pairs = [('cat', 'cat'), ('dgo', 'dog'), ('eel ', 'eels')]
  dataset = tmp_path / 'test.jsonl'
  dataset.write_text(
    ''.join(
      json.dumps({'prompt': f'{typed:16}', 'completion': word}) + '\n'
      for typed, word in pairs
    )
  )
  found = {
    'dataset': str(dataset),
    'examples': 3,
    'exact_match': 0.5,
    'character_error_rate': 0.25,
  }
  (tmp_path / 'evaluations.jsonl').write_text(json.dumps(found) + '\n')
  monkeypatch.setattr('sys.argv', ['compare', f'--workdir={tmp_path}'])
  compare.main()
  before, after = map(json.loads, capsys.readouterr().out.splitlines())
  assert (before['model'], after['model']) == (
    'as typed, test',
    'corrected, test',
  )
  assert before['exact_match'] == pytest.approx(1 / 3)
  assert before['character_error_rate'] == 0.3  # 2 + 1 edits in 10
  assert (after['exact_match'], after['character_error_rate']) == (0.5, 0.25)


def test_ngrams_follow_the_longest_context_that_was_seen():
  model = NGram('abcabdabd', order=3)
  assert model.following('xab') == {'a': 0, 'b': 0, 'c': 1, 'd': 2}
  assert model.most_likely('ab') == 'd'
  assert model.most_likely('xxb') == 'd'  # Of b alone: c once, d twice.
  assert set(model.following('x').values()) == {3, 1, 2}  # Nothing is compared.


def test_sqlite_tells_valid_queries_from_others():
  right = 'SELECT id FROM orders WHERE total > 3;'
  wrong = [
    'SELECT name FROM orders;',  # no such column
    'SELECT id FROM order;',  # a word of the language
    'SELECT id FROM orders WHERE;',
    'SELECT id FROM orders; SELECT',
    'DROP TABLE orders;',
    '',
  ]
  found = queries.shares([right, right, *wrong], known=set())
  assert found == {'valid': 0.25, 'valid_and_new': 0.25}
  assert queries.shares([right], known={right})['valid_and_new'] == 0


def test_every_query_of_the_data_is_valid_and_fits():
  rng = random.Random(1)
  made = [make_queries.query(rng) for _ in range(500)]
  assert queries.shares(made, ())['valid'] == 1
  assert max(map(len, made)) < queries.LONGEST


def test_every_query_of_the_data_has_the_form_of_the_grammar():
  rng = random.Random(1)
  form = re.compile(grammar.regex())
  for made in (make_queries.query(rng) for _ in range(500)):
    assert form.fullmatch(made), made


def test_every_query_of_the_grammar_is_valid():
  pytest.importorskip('outlines_core')
  rng, made = random.Random(1), []
  form = regex_automaton.build(grammar.regex())
  for _ in range(200):
    state, query = form.start, b''
    while not form.accepts[state]:
      byte = rng.choice(np.flatnonzero(form.step[state]))
      query, state = query + bytes([byte]), form.step[state, byte]
    made.append(query.decode())
  assert queries.shares(made, ())['valid'] == 1


def test_counted_queries_end_at_the_end_of_the_line():
  found = queries.by_counting('SELECT 1;\n' * 3, order=8, n=2)
  assert found == ['SELECT 1;'] * 2


def test_the_command_of_the_queries_example_is_accepted(tmp_path, capsys):
  rng = random.Random(0)
  text = '\n'.join(make_queries.query(rng) for _ in range(50)) + '\n'
  (tmp_path / 'queries.txt').write_text(text)
  [command] = train_commands('queries', tmp_path)
  describe(command)
  assert 'of 128 tokens' in capsys.readouterr().out


def test_lines_are_cut_into_what_was_and_what_follows():
  text = '# prose is left out\n' + 'x = f(alpha, beta)\nreturn\n' * 20
  found = code.cuts(text, n=5, context=30)
  assert len(found) == 5
  for cut in found:
    assert cut.begun + cut.rest == 'x = f(alpha, beta)'
    assert cut.begun and cut.rest
    assert cut.before.endswith(cut.begun) and len(cut.before) == 30


def test_completions_are_exact_or_at_least_parse():
  cuts = [code.Cut('x = f(', 'x = f(', 'y)')] * 4
  found = code.shares(['y)', 'z)', 'y', ''], cuts)
  assert found == {'characters': 3 / 8, 'exact': 0.25, 'parses': 0.5}


def test_models_write_lines(run_dir, monkeypatch):
  monkeypatch.setattr(queries, 'LONGEST', 20)
  monkeypatch.setattr(code, 'LONGEST', 20)
  tf.config.run_functions_eagerly(True)  # Faster than compiling.
  try:
    found = queries.by_model(run_dir, 3)
    found += code.by_model(loading.load_trained(run_dir), ['abc', 'abcd'])
  finally:
    tf.config.run_functions_eagerly(False)
  assert len(found) == 5 and len(set(found[:3])) == 3
  assert not any('\n' in text for text in found)
