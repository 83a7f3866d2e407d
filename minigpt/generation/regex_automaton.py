"""Compiles a regular expression to an automaton over bytes.

The library outlines-core (`pip install 'minigpt[grammar]'`) compiles an
expression to an automaton over the tokens of a vocabulary. This module gives it
a vocabulary of the 256 bytes; `grammar_table` then builds the tables of any
other vocabulary from the result.

Shapes: S states.
"""

import re
from typing import NamedTuple

import numpy as np

from minigpt.errors import InputError

DEAD = 0  # The state from which no text can match any more.
FAR = 2**30  # The distance to a state that cannot be reached.
MAX_STATES = 5_000  # A table for tokens takes memory for each.
_MAX_REPEATS = 1_000
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
  index = _index(_unanchored(regex))
  transitions = index.get_transitions()
  if len(transitions) > MAX_STATES:
    raise InputError(
      f'{len(transitions):,} states, and at most {MAX_STATES:,} fit; repeat '
      'fewer things, or bound them less exactly'
    )
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
  automaton = RegexAutomaton(step, accepts, place[index.get_initial_state()])
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


def _index(regex: str):
  """Returns the library's automaton of the matching texts, each plus a NUL.

  The library stops at the first alternative that matches: of `a|ab` it would
  only accept `a`. With a NUL at the end, only whole texts match.
  """
  try:
    import outlines_core
  except ImportError as error:
    raise InputError(f"{error}; pip install 'minigpt[grammar]'") from None
  letters = {bytes([byte]): [byte] for byte in range(256)}
  vocabulary = outlines_core.Vocabulary(_END, letters)
  try:
    return outlines_core.Index(f'(?:{regex})\\x00', vocabulary)
  except ValueError as error:
    reason = ' '.join(str(error).split())
    if 'no transitions' in reason:
      reason = 'a part of it matches no text'
    raise InputError(
      f'{reason:.120}; write it without look-around, back-references and '
      'anchors inside'
    ) from None
