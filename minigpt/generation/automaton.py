"""Search for strings in a text that grows by a token at a time.

Of several strings, the search finds the one that completes first; of those that
complete with the same byte, the longest. So the result does not depend on how
the text is split into tokens, or the tokens into chunks. Stop strings follow
this rule everywhere, on the host and in graphs.

Shapes: S states, V vocabulary.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np


class Automaton(NamedTuple):
  """The automaton of Aho & Corasick 1975, with all transitions in a table.

  A state stands for the longest suffix of the text that is a prefix of one of
  the strings; state 0 is the empty suffix.
  """

  step: np.ndarray  # int32 [S, 256], the state after each byte
  depth: np.ndarray  # int32 [S], bytes of the suffix
  # int32 [S], bytes of the longest string at the suffix's end, or 0.
  found: np.ndarray


class TokenTable(NamedTuple):
  """The effect of each token in each state."""

  next_state: np.ndarray  # int32 [S, V]
  # int32 [S, V], bytes from the start of the first completed string to the end
  # of the token; 0 where no string completes.
  n_after: np.ndarray


def build(strings: Sequence[bytes]) -> Automaton:
  """Returns the automaton that finds these strings, none of them empty."""
  children: list[dict[int, int]] = [{}]
  depth, found = [0], [0]
  for string in strings:
    state = 0
    for byte in string:
      if byte not in children[state]:
        children[state][byte] = len(children)
        children.append({})
        depth.append(depth[state] + 1)
        found.append(0)
      state = children[state][byte]
    found[state] = len(string)
  return _link(children, np.array(depth, np.int32), np.array(found, np.int32))


def _link(
  children: list[dict[int, int]], depth: np.ndarray, found: np.ndarray
) -> Automaton:
  """Adds the transitions for bytes that do not continue a state's strings."""
  step = np.zeros([len(children), 256], np.int32)
  # The state of the next shorter suffix. It is less deep, so by this order it
  # is complete before any state that falls back to it.
  fallback = np.zeros([len(children)], np.int32)
  for state in np.argsort(depth, kind='stable'):
    step[state] = step[fallback[state]]
    found[state] = max(found[state], found[fallback[state]])
    for byte, child in children[state].items():
      fallback[child] = step[state, byte]
      step[state, byte] = child
  return Automaton(step, depth, found)


def feed(
  automaton: Automaton, state: int, data: bytes
) -> tuple[int, int | None]:
  """Reads bytes up to the end of the first string that completes.

  Returns:
    The state, and the offset in `data` at which the string begins: negative if
    it began in earlier data, None if no string completes.
  """
  for end, byte in enumerate(data, start=1):
    state = int(automaton.step[state, byte])
    if automaton.found[state]:
      return state, end - int(automaton.found[state])
  return state, None


def until(data: bytes, strings: Sequence[str]) -> bytes:
  """Returns `data` up to the start of the first string that completes."""
  automaton = build([string.encode() for string in strings])
  return data[: feed(automaton, 0, data)[1]]


def token_table(automaton: Automaton, tokens: Sequence[bytes]) -> TokenTable:
  """Returns the table of an automaton and a vocabulary.

  Args:
    automaton: what `build` returned.
    tokens: the bytes of each token; a token without bytes keeps the state.
  """
  n_bytes = np.array(list(map(len, tokens)))
  width = n_bytes.max()
  padded = b''.join(token.ljust(width, b'\0') for token in tokens)
  letters = np.frombuffer(padded, np.uint8).reshape(len(tokens), width)
  n_states = len(automaton.step)
  state = np.repeat(
    np.arange(n_states, dtype=np.int32)[:, None], len(tokens), 1
  )
  n_after = np.zeros_like(state)
  # Advance all tokens in step, by byte i of each token that has one.
  for i in range(width):
    here = n_bytes > i
    state[:, here] = automaton.step[state[:, here], letters[here, i]]
    found = automaton.found[state[:, here]]
    ends = np.where(found > 0, found + (n_bytes[here] - i - 1), 0)
    n_after[:, here] = np.where(n_after[:, here] > 0, n_after[:, here], ends)
  return TokenTable(state, n_after)


def text_of(tokens: Sequence[bytes], end_of_text: int | None) -> list[bytes]:
  """Returns the bytes of each token, none for `end_of_text`."""
  return [b'' if i == end_of_text else t for i, t in enumerate(tokens)]


def stop_table(
  strings: Sequence[str], tokens: Sequence[bytes], end_of_text: int | None
) -> np.ndarray:  # -> int32 [S, V]
  """Returns the state after each token; below 0 where a string completes.

  A negative entry is minus the number of bytes to cut off the text: those of
  the string, and those of the token after it.

  Args:
    strings: the stop strings, none of them empty.
    tokens: the bytes of each token.
    end_of_text: the token that has no text, if there is one.
  """
  automaton = build([string.encode() for string in strings])
  next_state, n_after = token_table(automaton, text_of(tokens, end_of_text))
  return np.where(n_after > 0, -n_after, next_state)
