"""From a regular expression to an automaton over bytes.

The library outlines-core (`pip install 'minigpt[grammar]'`) indexes the tokens
of a vocabulary. Given the 256 bytes as one, its index is the automaton of the
expression itself, from which `grammar_table` makes tables for any vocabulary.

Shapes: S states.
"""

import re
from typing import NamedTuple

import numpy as np

from minigpt.errors import InputError

DEAD = 0  # The state from which nothing can match.
FAR = 2**30  # Steps, where there is no way.
MAX_STATES = 5_000  # A table for tokens takes memory for each.
_MAX_REPEATS = 1_000
_END = 256  # The id that the library wants for the end of a text.


class RegexAutomaton(NamedTuple):
  """What each byte does in each state, and where a text may end."""

  step: np.ndarray  # int32 [S, 256]; DEAD where no match can follow
  accepts: np.ndarray  # bool [S]
  start: int


def build(regex: str) -> RegexAutomaton:
  """Returns the automaton of the texts that a regular expression matches whole.

  A `^` before it and a `$` behind it change nothing, so they are left out. The
  syntax is that of https://docs.rs/regex, in Unicode.

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
  # `_index` has put a NUL behind every match.
  accepts = final[step[:, 0]]
  automaton = RegexAutomaton(step, accepts, place[index.get_initial_state()])
  return _without_dead_ends(automaton)


def matches(automaton: RegexAutomaton, text: bytes) -> bool:
  """Tells whether a text is one of the automaton's."""
  state = automaton.start
  for byte in text:
    state = int(automaton.step[state, byte])
  return bool(automaton.accepts[state])


def distances(step: np.ndarray, accepts: np.ndarray) -> np.ndarray:
  """Returns the fewest steps from each state to one that accepts, int32 [S].

  Args:
    step: int32 [S, K], the state after each of K things.
    accepts: bool [S].

  Returns:
    The steps, `FAR` where there is no way; and where the state is DEAD.
  """
  # Most things do the same, so of each way from state to state one is kept.
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
  """Makes every state DEAD that leads to no end of a text."""
  lives = distances(automaton.step, automaton.accepts) < FAR
  if not lives[automaton.start]:
    raise InputError('it matches no text; leave out what contradicts itself')
  step = np.where(lives[automaton.step], automaton.step, DEAD)
  step[~lives] = DEAD
  return automaton._replace(step=step)


def _unanchored(regex: str) -> str:
  body = regex.removeprefix('^')
  # An even number of backslashes escapes nothing behind them.
  end = re.search(r'(?<!\\)(?:\\\\)*\$$', body)
  return body[:-1] if end else body


def _check_repeats(regex: str) -> None:
  """Refuses at once what the library would need minutes for."""
  bounds = re.findall(r'\{(\d*),?(\d*)\}', re.sub(r'\\.', '', regex))
  most = max((int(n) for pair in bounds for n in pair if n), default=0)
  if most > _MAX_REPEATS:
    raise InputError(
      f'{{{most}}} repeats more than {_MAX_REPEATS:,} times; use + or *'
    )


def _index(regex: str):
  """Returns the library's index of bytes, of the texts with a NUL behind them.

  The library prefers the first alternative that matches, and so would not read
  `a|ab` any further than `a`; behind a NUL nothing is left to prefer.
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
