"""Automata of regular expressions, compared with Python's `re`."""

import itertools
import re
import sys

import pytest

from minigpt.errors import InputError
from minigpt.generation import regex_automaton

TEXTS = [
  ''.join(letters)
  for n in range(5)
  for letters in itertools.product('ab.$', repeat=n)
]


@pytest.mark.parametrize(
  'regex',
  [
    'a|ab',  # Not only the first alternative that matches.
    'a*?b?',
    '^ab|a$',
    r'a\.\$',
    r'\\?\$$',
    '(?i)A[^a]',
    '(a|b){2,3}',
    'a*',
  ],
)
def test_texts_are_those_of_pythons_expressions(regex):
  automaton = regex_automaton.build(regex)
  unanchored = {'^ab|a$': 'ab|a'}.get(regex, regex)
  for text in TEXTS:
    expected = bool(re.fullmatch(unanchored, text))
    assert regex_automaton.matches(automaton, text.encode()) == expected, text


def test_characters_are_whole():
  automaton = regex_automaton.build('[\u00e9\U0001f600]')
  assert regex_automaton.matches(automaton, '\U0001f600'.encode())
  assert not regex_automaton.matches(automaton, '\U0001f600'.encode()[:3])


@pytest.mark.parametrize(
  'regex, said',
  [
    ('a(', 'error building NFA; write it without look-around'),
    ('(?=a)b', 'write it without look-around'),
    (r'(a)\1', 'back-references'),
    (r'\bfoo', 'write it without'),
    ('[a&&b]', 'matches no text'),
    ('a{100000}', '{100000} repeats more than 1,000 times'),
    ('([a-d]{1,90}x){1,90}', '8,190 states or so, and at most 5,000 fit'),
    ('((a{1,50}){1,50}){1,50}', '125,000 states or so, and'),
    (r'(\w{1,9},|[[:alpha:]a]{2}){60}', '170,700 states or so, and'),
    ('(a|b)*a(a|b){12}', 'states, and at most 5,000 fit'),
  ],
)
def test_what_cannot_be_used_is_refused_in_a_line(regex, said):
  with pytest.raises(InputError) as error:
    regex_automaton.build(regex)
  assert said in str(error.value) and '\n' not in str(error.value)


def test_a_missing_library_is_named(monkeypatch):
  monkeypatch.setitem(sys.modules, 'outlines_core', None)
  with pytest.raises(InputError, match=r"pip install 'minigpt\[grammar\]'"):
    regex_automaton.build('a')


def test_an_expression_is_refused_before_it_is_built(monkeypatch):
  monkeypatch.setattr(regex_automaton, '_index', None)
  with pytest.raises(InputError, match='125,000 states or so'):
    regex_automaton.build('((a{1,50}){1,50}){1,50}')


def test_a_string_whose_inside_could_begin_another_takes_no_time():
  automaton = regex_automaton.build(r'"([^"\\\x00-\x1f]|\\["\\]){0,99}"')
  assert len(automaton.step) < 1000
  assert regex_automaton.matches(automaton, rb'"\"a\\"')
  assert not regex_automaton.matches(automaton, rb'"\"a\"')
  assert not regex_automaton.matches(automaton, b'\0"a"')


@pytest.mark.parametrize(
  'regex, n',
  [
    ('a{2}{3}|b', 6),
    ('(?:ab|c)[]x]{2}', 4),
    (r'(?P<n>\.[^\]a]{2}|\u{e9})', 17),
    ('(?i)a*b+c?', 3),
  ],
)
def test_the_states_of_a_longest_text(regex, n):
  assert regex_automaton._longest(regex) == n
