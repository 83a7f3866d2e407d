"""The table by which grammars constrain tokens: states by classes of tokens.

Tokens with the same effect in every state form a class, and the table has a
column for each class instead of each token. That keeps it small: only a few of
GPT-2's 50,257 tokens can occur in a number, for example; all others are alike.

Shapes: G grammars, S states, V vocabulary, C classes.
"""

import itertools
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from minigpt.errors import InputError
from minigpt.generation import automaton, regex_automaton
from minigpt.generation.grammar import Grammar
from minigpt.generation.regex_automaton import DEAD, FAR, RegexAutomaton
from minigpt.tokenizers import Tokenizer

FREE = 1  # The state of rows without a grammar: every token is allowed.
MAX_ENTRIES = 2**24  # Entries of a table: 64 MB.
_BLOCK = 64  # States that are processed at a time, to save memory.


class GrammarTable(NamedTuple):
  """All grammars of an export; the states begin with DEAD and FREE."""

  names: tuple[str, ...]
  start: np.ndarray  # int32 [G]
  owner: np.ndarray  # int32 [S], the grammar of each state, counted from 1
  next_state: np.ndarray  # int32 [S, C]; DEAD: the token is not allowed
  token_class: np.ndarray  # int32 [V]
  distance: np.ndarray  # int32 [S], fewest tokens to the end of an answer
  # The fewest tokens to an end that is not here: those of a longer answer.
  onward: np.ndarray  # int32 [S]
  ends: np.ndarray  # bool [S], whether an answer is complete and cannot go on

  def least(self, name: str) -> int:
    """Returns the number of tokens in the shortest answer."""
    return int(self.onward[self.start[self.names.index(name)]])


def build(grammars: Sequence[Grammar], tokenizer: Tokenizer) -> GrammarTable:
  """Returns the table of grammars and a vocabulary.

  Raises:
    InputError: a grammar is not supported, no answer can be spelled with the
      vocabulary, or the table would be too large.
  """
  end = tokenizer.end_of_text
  tokens = automaton.text_of(tokenizer.tokens, end)
  automata = [grammar.automaton() for grammar in grammars]
  joined = _join(automata)
  token_class, next_state = _classes(joined.step, tokens, end, joined.accepts)
  distance = regex_automaton.distances(next_state, joined.accepts)
  start = np.array(joined.start, np.int32)
  for grammar, one, first in zip(grammars, automata, start, strict=True):
    if distance[first] >= FAR:
      raise InputError(_unspelled(grammar, one, tokens))
    if distance[first] == 0 and end is None and not one.step[one.start].any():
      raise InputError(
        f'grammar {grammar.name}: it matches the empty text only'
      )
  next_state = np.where(distance[next_state] < FAR, next_state, DEAD)
  next_state[FREE], distance[[DEAD, FREE]] = FREE, [FAR, 0]
  goes_on = next_state != DEAD
  if end is not None:
    goes_on[:, token_class[end]] = False
  ends = joined.accepts & ~goes_on.any(1)
  onward = 1 + distance[next_state].min(1)
  names = tuple(grammar.name for grammar in grammars)
  return GrammarTable(
    names, start, joined.owner, next_state, token_class, distance, onward, ends
  )


class _Joined(NamedTuple):
  step: np.ndarray  # int32 [S, 256]
  accepts: np.ndarray  # bool [S]
  start: list[int]
  owner: np.ndarray  # int32 [S]


def _join(automata: Sequence[RegexAutomaton]) -> _Joined:
  """Joins automata into one, their states numbered after DEAD and FREE."""
  steps = [np.full([2, 256], DEAD, np.int32)]
  accepts, start, n_states = [np.zeros([2], bool)], [], 2
  for one in automata:
    moved = n_states - 1  # State 0 of each automaton becomes DEAD.
    steps.append(np.where(one.step[1:] == DEAD, DEAD, one.step[1:] + moved))
    accepts.append(one.accepts[1:])
    start.append(one.start + moved)
    n_states += len(one.step) - 1
  n_own = [2, *(len(one.accepts) - 1 for one in automata)]
  owner = np.repeat(np.arange(len(n_own), dtype=np.int32), n_own)
  return _Joined(np.concatenate(steps), np.concatenate(accepts), start, owner)


def _classes(
  step: np.ndarray,
  tokens: Sequence[bytes],
  end_of_text: int | None,
  accepts: np.ndarray,
) -> tuple[np.ndarray, np.ndarray]:  # -> int32 [V], int32 [S, C]
  """Returns each token's class, and each class's next state in each state."""
  token_class, n_classes = [0] * len(tokens), 1
  blocks = []
  for first in range(0, len(step), _BLOCK):
    states = np.arange(first, min(first + _BLOCK, len(step)), dtype=np.int32)
    after = _after(step, states, tokens)
    if end_of_text is not None:
      after[end_of_text] = np.where(accepts[states], states, DEAD)
    # A class is split where its tokens differ in one of these states.
    columns: Any = (
      after.view(np.dtype((np.void, after.strides[0]))).ravel().tolist()
    )
    kinds: dict[tuple[int, bytes], int] = {}
    pairs = zip(token_class, columns, strict=True)
    token_class = [kinds.setdefault(pair, len(kinds)) for pair in pairs]
    n_classes = len(kinds)
    if len(step) * n_classes > MAX_ENTRIES:
      raise InputError(
        f'grammars: a table of {len(step):,} states and {n_classes:,} kinds '
        f'of tokens or more, and at most {MAX_ENTRIES:,} entries fit; export '
        'fewer grammars, or bound fewer lengths in them'
      )
    blocks.append(after)
  one_of_each = np.unique(token_class, return_index=True)[1]
  table = [after[one_of_each].T for after in blocks]
  return np.array(token_class, np.int32), np.concatenate(table)


def _after(
  step: np.ndarray, states: np.ndarray, tokens: Sequence[bytes]
) -> np.ndarray:  # int32 [N] -> int32 [V, N]
  """Returns the states after each token; DEAD for a token without bytes."""
  order = sorted(range(len(tokens)), key=tokens.__getitem__)
  after = np.full([len(tokens), len(states)], DEAD, np.int32)
  # In sorted order, a token reuses the states of the prefix that it shares with
  # the token before; path[n] has the states after n bytes.
  path, before = [states], b''
  for i in order:
    pairs = zip(before, tokens[i], strict=False)
    n_same = len([*itertools.takewhile(lambda pair: pair[0] == pair[1], pairs)])
    del path[n_same + 1 :]
    for byte in tokens[i][n_same:]:
      path.append(step[path[-1], byte])
    before = tokens[i]
    if before:
      after[i] = path[-1]
  return after


def _unspelled(
  grammar: Grammar, one: RegexAutomaton, tokens: Sequence[bytes]
) -> str:
  """Returns an error message about the bytes that the vocabulary lacks."""
  known = {*b''.join(tokens)}
  lacking = [byte for byte in range(256) if byte not in known]
  needed = [byte for byte in lacking if not _lives_without(one, [byte])]
  if needed:
    shown = ', '.join(repr(bytes([b]))[1:] for b in needed[:5])
  elif _lives_without(one, lacking):
    shown = 'the bytes in the order that it needs'
  else:
    shown = 'enough of the bytes that it may have'
  return (
    f'grammar {grammar.name}: no answer can be spelled, as no token has '
    f'{shown}; use a vocabulary of bytes, or another grammar'
  )


def _lives_without(one: RegexAutomaton, without: Sequence[int]) -> bool:
  """Tells whether some matching text has none of these bytes."""
  step = one.step.copy()
  step[:, without] = DEAD
  return regex_automaton.distances(step, one.accepts)[one.start] < FAR
