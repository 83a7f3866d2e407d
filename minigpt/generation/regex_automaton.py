"""Compiles a regular expression to an automaton over bytes.

The library outlines-core (`pip install 'minigpt[grammar]'`) compiles an
expression to an automaton over the tokens of a vocabulary. This module gives it
a vocabulary of the 256 bytes; `grammar_table` then builds the tables of any
other vocabulary from the result.

Shapes: S states.
"""

import functools
import re
from typing import NamedTuple

import numpy as np

from minigpt.errors import InputError

DEAD = 0  # The state from which no text can match any more.
FAR = 2**30  # The distance to a state that cannot be reached.
MAX_STATES = 5_000  # A table for tokens takes memory for each.
_MAX_REPEATS = 1_000
# The parts of an expression: classes, escapes, repeats, groups, characters.
_PARTS = re.compile(
  r'\[\^?\]?(?:\[[^\]]*\]|\\.|[^[\]\\])*\]|\\[pPxuU]\{\w*\}|\\[pP]?.'
  r'|\{\d+,?\d*\}|\(\?[a-z-]*\)|(?:(?<=\()\?(?:P?<\w+>|[a-z-]*:))|.',
  re.DOTALL,
)
_REPEATS = re.compile(r'\{(\d+),?(\d*)\}')
_NOTHING = re.compile(r'[*+?^$()|]|\{\d.*\}|\(\?.*|\?.+', re.DOTALL)
_NUL = r'\x00'
_END = 256  # The library requires an id for the end of a text.


class RegexAutomaton(NamedTuple):
  """An automaton over bytes: its transitions and accepting states."""

  step: np.ndarray  # int32 [S, 256]; DEAD where no match can follow
  accepts: np.ndarray  # bool [S]
  start: int


def build(regex: str) -> RegexAutomaton:
  """Returns the automaton that accepts the texts matched as a whole.

  The syntax is that of https://docs.rs/regex, in Unicode. A `^` at the start
  and a `$` at the end are redundant and are removed.

  Raises:
    InputError: it can't be read, matches no text, is too large, or the library
      is missing.
  """
  _check_repeats(regex)
  _check_states(_longest(regex), ' or so')
  regex = _unanchored(regex)
  before = _begin(regex)
  index = _index(regex, before)
  transitions = index.get_transitions()
  start = index.get_initial_state()
  if before:  # A text begins behind it.
    (start,) = transitions.pop(start).values()
  _check_states(len(transitions))
  place = {state: i for i, state in enumerate(transitions, start=1)}
  step = np.full([len(place) + 1, 256], DEAD, np.int32)
  final = np.zeros([len(place) + 1], bool)
  for state, after in transitions.items():
    final[place[state]] = index.is_final_state(state)
    for byte, next_state in after.items():
      if byte != _END:
        step[place[state], byte] = place[next_state]
  # `_index` appends a NUL to every match.
  accepts = final[step[:, 0]]
  automaton = RegexAutomaton(step, accepts, place[start])
  return _without_dead_ends(automaton)


def matches(automaton: RegexAutomaton, text: bytes) -> bool:
  """Tells whether the automaton accepts a text."""
  state = automaton.start
  for byte in text:
    state = int(automaton.step[state, byte])
  return bool(automaton.accepts[state])


def distances(step: np.ndarray, accepts: np.ndarray) -> np.ndarray:
  """Returns the fewest steps from each state to an accepting one, int32 [S].

  The distance is `FAR` where no accepting state can be reached.

  Args:
    step: int32 [S, K], the next state for each of K symbols.
    accepts: bool [S].
  """
  # Many symbols lead to the same state; keep one edge for each pair of states.
  ways = [np.unique(row[row != DEAD]) for row in step]
  source = np.repeat(np.arange(len(step)), list(map(len, ways)))
  target = np.concatenate(ways)
  found = np.where(accepts, 0, FAR).astype(np.int32)
  reached, n_steps = accepts, 0
  while reached.any():
    n_steps += 1
    before = np.zeros_like(accepts)
    before[source[reached[target]]] = True
    reached = before & (found == FAR)
    found[reached] = n_steps
  return found


def _without_dead_ends(automaton: RegexAutomaton) -> RegexAutomaton:
  """Replaces the states that cannot reach an accepting one by DEAD."""
  lives = distances(automaton.step, automaton.accepts) < FAR
  if not lives[automaton.start]:
    raise InputError('it matches no text; leave out what contradicts itself')
  step = np.where(lives[automaton.step], automaton.step, DEAD)
  step[~lives] = DEAD
  return automaton._replace(step=step)


def _unanchored(regex: str) -> str:
  body = regex.removeprefix('^')
  # After an even number of backslashes, the $ is not escaped.
  end = re.search(r'(?<!\\)(?:\\\\)*\$$', body)
  return body[:-1] if end else body


def _check_repeats(regex: str) -> None:
  """Refuses repeat counts for which the library would need minutes."""
  bounds = re.findall(r'\{(\d*),?(\d*)\}', re.sub(r'\\.', '', regex))
  most = max((int(n) for pair in bounds for n in pair if n), default=0)
  if most > _MAX_REPEATS:
    raise InputError(
      f'{{{most}}} repeats more than {_MAX_REPEATS:,} times; use + or *'
    )


def _check_states(n_states: int, about: str = '') -> None:
  if n_states > MAX_STATES:
    raise InputError(
      f'{n_states:,} states{about}, and at most {MAX_STATES:,} fit; repeat '
      'fewer things, or bound them less exactly'
    )


def _longest(regex: str) -> int:
  """Returns a lower bound of the number of states: those of the longest text.

  Nested repeats multiply, and the library would take minutes to count. No two
  positions of the longest text share a state, as the lengths of what may follow
  them differ. An unbounded repeat counts once.
  """
  # For each open group: the states of its longest alternative, those of the
  # current one so far, and those of the last part, which a repeat multiplies.
  groups = [(0, 0, 0)]
  for part in _PARTS.findall(regex):
    longest, here, last = groups.pop()
    if part == '(':
      groups += [(longest, here, last), (0, 0, 0)]
    elif part == '|':
      groups.append((max(longest, here), 0, 0))
    elif part == ')' and groups:
      last = max(longest, here)
      longest, here, _ = groups.pop()
      groups.append((longest, here + last, last))
    elif repeats := _REPEATS.fullmatch(part):
      more = int(repeats[2] or repeats[1]) - 1
      groups.append((longest, here + more * last, last + more * last))
    else:
      last = _read(part).n_states
      groups.append((longest, here + last, last))
  return sum(max(longest, here) for longest, here, _ in groups)


class _Part(NamedTuple):
  """The states of a character or a class of characters."""

  n_states: int  # hundreds for a class of Unicode
  takes_nul: bool


@functools.cache
def _read(part: str) -> _Part:
  """Returns the states of a part; none if it matches no character."""
  if _NOTHING.fullmatch(part):
    return _Part(0, False)
  if len(part) == 1 and part != '.':
    return _Part(len(part.encode()), part == '\0')
  try:
    index = _index(part)
  except InputError:
    return _Part(1, True)  # Compiling the whole expression reports the error.
  transitions = index.get_transitions()
  # Two states are not the class's: the one before it, and that after the NUL.
  takes_nul = 0 in transitions[index.get_initial_state()]
  return _Part(len(transitions) - 2, takes_nul)


def _begin(regex: str) -> str:
  """Returns a prefix for the expression: a NUL, or nothing.

  The library also prepares for matches that begin anywhere in a text. If a text
  can begin inside of another, as after an escaped quote in a string, that takes
  exponential time. A NUL at the beginning prevents it, if no text can contain
  one.
  """
  return '' if any(_read(p).takes_nul for p in _PARTS.findall(regex)) else _NUL


def _index(regex: str, start: str = ''):
  """Returns the library's automaton of the matching texts, each plus a NUL.

  The library stops at the first alternative that matches: of `a|ab` it would
  only accept `a`. With a NUL at the end, only whole texts match.

  Args:
    regex: of the texts.
    start: what each text begins with besides.
  """
  try:
    import outlines_core
  except ImportError as error:
    raise InputError(f"{error}; pip install 'minigpt[grammar]'") from None
  letters = {bytes([byte]): [byte] for byte in range(256)}
  vocabulary = outlines_core.Vocabulary(_END, letters)
  try:
    return outlines_core.Index(f'{start}(?:{regex})\\x00', vocabulary)
  except ValueError as error:
    reason = ' '.join(str(error).split())
    if 'no transitions' in reason:
      reason = 'a part of it matches no text'
    raise InputError(
      f'{reason:.120}; write it without look-around, back-references and '
      'anchors inside'
    ) from None
