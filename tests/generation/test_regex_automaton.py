"""Automata of regular expressions, held against Python's own."""

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
    'a|ab',  # Whoever takes the first that fits never reads the b.
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
    ('([a-d]{1,90}x){1,90}', 'at most 5,000 fit'),
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
