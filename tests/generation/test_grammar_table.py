"""Tables over tokens, compared with the automaton over bytes."""

import pytest

from minigpt import tokenizers
from minigpt.errors import InputError
from minigpt.generation import grammar_table, regex_automaton
from minigpt.generation.grammar import Grammar
from minigpt.generation.grammar_table import DEAD, FREE
from minigpt.generation.regex_automaton import FAR
from minigpt.tokenizers.word import WordTokenizer

NUMBER = Grammar('number', '-?[0-9]{1,3}')
SIGN = Grammar('sign', 'yes|no')
LETTERS = tokenizers.build('char', '-0123456789abenosy')
WORDS = WordTokenizer(['12', '-', '3', 'yes', '7', ' ', '<|unk|>', '<|eos|>'])


def walk(table, name, tokens):
  state = table.start[table.names.index(name)]
  for token in tokens:
    state = table.next_state[state, table.token_class[token]]
  return state


@pytest.mark.parametrize('tokenizer', [LETTERS, WORDS], ids=['char', 'word'])
def test_tokens_go_where_their_bytes_go(tokenizer):
  table = grammar_table.build([NUMBER, SIGN], tokenizer)
  assert (table.next_state[FREE] == FREE).all()
  assert (table.next_state[DEAD] == DEAD).all()
  for grammar in NUMBER, SIGN:
    automaton = grammar.automaton()
    ids = range(tokenizer.vocab_size)
    for first in ids:
      for second in ids:
        spelled = tokenizer.decode_bytes([first, second])
        if tokenizer.end_of_text in (first, second):
          continue
        state = walk(table, grammar.name, [first, second])
        complete = regex_automaton.matches(automaton, spelled)
        assert (table.distance[state] == 0) == complete


def test_an_answer_may_end_where_it_is_complete():
  table = grammar_table.build([NUMBER], WORDS)
  end = WORDS.end_of_text
  assert walk(table, 'number', [end]) == DEAD
  place = WORDS.tokens.index
  assert walk(table, 'number', [place(b'12'), end]) != DEAD
  assert walk(table, 'number', [place(b'-'), end]) == DEAD
  assert table.ends[walk(table, 'number', [place(b'12'), place(b'3')])]
  assert not table.ends[walk(table, 'number', [place(b'12')])]


def test_distances_are_counted_in_tokens():
  assert grammar_table.build([SIGN], LETTERS).least('sign') == 2
  assert grammar_table.build([SIGN], WORDS).least('sign') == 1
  table = grammar_table.build([SIGN], WORDS)
  assert table.distance[DEAD] == FAR and table.distance[FREE] == 0


def test_equal_tokens_share_a_column():
  table = grammar_table.build([NUMBER, SIGN], LETTERS)
  kinds = table.token_class[[LETTERS.tokens.index(c) for c in (b'3', b'4')]]
  assert kinds[0] == kinds[1] and table.next_state.shape[1] < 10
  assert table.owner.tolist() == sorted(table.owner)
  assert table.owner[table.start].tolist() == [1, 2]


@pytest.mark.parametrize(
  'regex, said',
  [
    ('\\{x\\}', "no token has 'x', '{', '}'"),
    ('', 'matches the empty text only'),
    ('[', 'grammar g: '),
  ],
)
def test_grammars_without_an_answer_are_refused(regex, said):
  with pytest.raises(InputError) as error:
    grammar_table.build([Grammar('g', regex)], LETTERS)
  assert said in str(error.value)


def test_a_table_has_a_largest_size(monkeypatch):
  monkeypatch.setattr(grammar_table, 'MAX_ENTRIES', 20)
  with pytest.raises(InputError, match='at most 20 entries fit'):
    grammar_table.build([NUMBER], LETTERS)
