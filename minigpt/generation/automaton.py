"""Finding strings in a text that grows a token at a time.

Of several strings, the one that completes first is found, and of those that
complete with the same byte the longest. So the answer does not depend on how
the text is cut into tokens, or the tokens into chunks. It is the one rule for
stop strings, on the host and in graphs.

Shapes: S states, V vocabulary.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np


class Automaton(NamedTuple):
  """Aho & Corasick 1975, with every transition written out.

  A state is the longest end of the text that begins one of the strings; state
  0 is the empty one.
  """

  step: np.ndarray  # int32 [S, 256], the state after each byte
  depth: np.ndarray  # int32 [S], bytes of that end
  found: np.ndarray  # int32 [S], bytes of the longest string it ends with; or 0


class TokenTable(NamedTuple):
  """What a whole token does in each state."""

  next_state: np.ndarray  # int32 [S, V]
  # Bytes from where the first string to complete begins to the token's end; 0
  # where none completes.
  n_after: np.ndarray  # int32 [S, V]


def build(strings: Sequence[bytes]) -> Automaton:
  """Returns the automaton of strings, none of them empty."""
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
  """Adds what a state does with bytes that continue none of its strings."""
  step = np.zeros([len(children), 256], np.int32)
  fallback = np.zeros([len(children)], np.int32)  # The next shorter end.
  # Fallbacks are shorter, so those of a state are finished before it.
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
    The state, and where that string begins, counted from the start of `data`:
    negative where it has begun before. None where no string completes.
  """
  for end, byte in enumerate(data, start=1):
    state = int(automaton.step[state, byte])
    if automaton.found[state]:
      return state, end - int(automaton.found[state])
  return state, None


def until(data: bytes, strings: Sequence[str]) -> bytes:
  """Returns the text before the first string that completes, or all of it."""
  automaton = build([string.encode() for string in strings])
  return data[: feed(automaton, 0, data)[1]]


def token_table(automaton: Automaton, tokens: Sequence[bytes]) -> TokenTable:
  """Returns the table of a vocabulary.

  Args:
    tokens: the bytes of each; one without any leaves the state as it is.
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
  # All tokens advance by one byte at a time, until they have no more.
  for i in range(width):
    here = n_bytes > i
    state[:, here] = automaton.step[state[:, here], letters[here, i]]
    found = automaton.found[state[:, here]]
    ends = np.where(found > 0, found + (n_bytes[here] - i - 1), 0)
    n_after[:, here] = np.where(n_after[:, here] > 0, n_after[:, here], ends)
  return TokenTable(state, n_after)


def text_of(tokens: Sequence[bytes], end_of_text: int | None) -> list[bytes]:
  """Returns the bytes of each token; `end_of_text` is no text."""
  return [b'' if i == end_of_text else t for i, t in enumerate(tokens)]


def stop_table(
  strings: Sequence[str], tokens: Sequence[bytes], end_of_text: int | None
) -> np.ndarray:  # -> int32 [S, V]
  """Returns the state after each token; below 0 where a string completes.

  Then it is minus the bytes at the text's end that are no part of it: the
  string, and what the token has behind it.

  Args:
    strings: that end a text, none of them empty.
    tokens: the bytes of each.
    end_of_text: a token that is no text.
  """
  automaton = build([string.encode() for string in strings])
  next_state, n_after = token_table(automaton, text_of(tokens, end_of_text))
  return np.where(n_after > 0, -n_after, next_state)
