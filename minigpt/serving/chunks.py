"""Rows that a model continues a few tokens at a time, with `generate_chunk`.

Nothing about a row stays on the server between two calls: each sends the tokens
that the model still sees, and how many were sampled. So rows may join and leave
a batch at every chunk, and what they get is what one call would give them.

Shapes: B rows, T tokens, N new tokens.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np

from minigpt.errors import UsageError
from minigpt.generation.request import Request
from minigpt.generation.row_stops import MAX_BYTES, MAX_STRINGS
from minigpt.serving.endpoint import Endpoint, malformed, pick
from minigpt.serving.sampling_inputs import (
  sampling_inputs,
  signature_for,
)

SIGNATURE = 'generate_chunk'
# Tokens of a chunk: fewer cost more, as each chunk reads the prompt again; more
# keep readers waiting.
SIZE = 16


class Chunk(NamedTuple):
  """What a row got from one call."""

  tokens: np.ndarray  # int32 [N]
  log_probs: np.ndarray  # f32 [N], under the model at temperature 1
  # The most likely tokens at each place and their log p, [N, K], best first.
  alternatives: np.ndarray
  alternative_log_probs: np.ndarray


@dataclasses.dataclass(eq=False)  # A row is no other, of equal tokens or not.
class Row:
  """A text that is being continued."""

  ids: np.ndarray  # int32 [T], what the model is to read, at least one token
  request: Request
  n_alternatives: int = 0  # to be told of each token, at most 20
  n_sampled: int = 0
  done: bool = False
  stopped: bool = False  # The model has ended the text, not the request.
  grammar_state: int = 0  # Where the text stands in its grammar.

  @property
  def n_left(self) -> int:
    """Returns how many tokens the row may still get."""
    return self.request.max_new_tokens - self.n_sampled

  def options(self, n_new: int, version: int) -> dict[str, np.ndarray]:
    """Returns the inputs, each [1], of a call for up to `n_new` tokens."""
    n_least = self.request.min_new_tokens - self.n_sampled
    request = dataclasses.replace(
      self.request,
      max_new_tokens=n_new,
      min_new_tokens=min(max(n_least, 0), n_new),
    )
    return {
      'prompt_len': np.array([len(self.ids)], np.int32),
      'num_sampled': np.array([self.n_sampled], np.int32),
      'num_alternatives': np.array([self.n_alternatives], np.int32),
      **sampling_inputs(request, 1, version),
    }

  def grammar_inputs(self) -> dict[str, np.ndarray]:
    """Returns the inputs, each [1], that say what the text must match."""
    return {
      'grammar': np.array([self.request.grammar], object),
      'grammar_state': np.array([self.grammar_state], np.int32),
      'num_left': np.array([self.n_left], np.int32),
    }

  def take(self, answer: Mapping[str, Any]) -> Chunk:
    """Takes in the row's part of an answer, and returns what is new.

    Raises:
      ValueError: the numbers in it do not fit together.
    """
    n, n_seen = int(answer['num_tokens']), int(answer['next_prompt_len'])
    # Without a token, whoever asks until the row is done would ask for ever.
    n_least = 0 if answer['done'] else 1
    if not n_least <= n <= min(self.n_left, len(answer['tokens'])):
      raise ValueError(f'{n} tokens')
    if not 0 < n_seen <= len(self.ids) + n:
      raise ValueError(f'a prompt of {n_seen} tokens')
    chunk = Chunk(
      answer['tokens'][:n],
      answer['log_probs'][:n],
      answer['alternatives'][:n, : self.n_alternatives],
      answer['alternative_log_probs'][:n, : self.n_alternatives],
    )
    self.ids = np.concatenate([self.ids, chunk.tokens])[-n_seen:]
    self.n_sampled += n
    self.stopped = bool(answer['done'])
    self.done = self.stopped or self.n_left <= 0
    self.grammar_state = int(answer.get('next_grammar_state', 0))
    return chunk


def text_tokens(tokens: np.ndarray, end_of_text: int | None) -> np.ndarray:
  """Returns new tokens without the one that has ended the text."""
  is_end = len(tokens) > 0 and tokens[-1] == end_of_text
  return tokens[:-1] if is_end else tokens


def has_chunks(endpoint: Endpoint) -> bool:
  """Returns whether a model was exported with the signature."""
  return SIGNATURE in endpoint.signatures()


def limit(endpoint: Endpoint) -> int:
  """Returns the most tokens that one call can give.

  Raises:
    EndpointError: the model was exported before there were chunks.
  """
  outputs = pick(endpoint.signatures(), SIGNATURE).outputs
  with malformed(f'no limit in {SIGNATURE}'):
    return int(outputs['tokens'].shape[1])


def batch_size(n_rows: int, compiled: Sequence[int]) -> int:
  """Returns how many rows to send for `n_rows`.

  Args:
    n_rows: 1 or more.
    compiled: sizes that a program is compiled for; beyond them it is for powers
      of two. Empty where nothing is compiled, so that any size will do.
  """
  if not compiled:
    return n_rows
  fitting = [n for n in compiled if n >= n_rows]
  return min(fitting, default=1 << (n_rows - 1).bit_length())


def predict(
  endpoint: Endpoint,
  rows: Sequence[Row],
  n_new: int = SIZE,
  compiled: Sequence[int] = (),
) -> list[Chunk]:
  """Gives each row up to `n_new` more tokens, in one call.

  Args:
    endpoint: what computes.
    rows: at least one.
    n_new: at most what `limit` says.
    compiled: sizes of batches, one of which is sent; see `batch_size`.

  Raises:
    UsageError: a row sets an option that came after the export.
    EndpointError: the server gives no answer, or refuses a row.
  """
  requests = [row.request for row in rows]
  name, version = signature_for(SIGNATURE, requests)
  named = [request.grammar for request in requests if request.grammar]
  if name not in endpoint.signatures() and has_chunks(endpoint):
    if named:
      raise no_grammars(named[0])
    raise UsageError('an option came after the model was exported')
  inputs = _inputs(rows, n_new, version, compiled, bool(named))
  answer = endpoint.predict(name, inputs)
  with malformed(f'no answer of {name}'):
    return [
      row.take({key: value[i] for key, value in answer.items()})
      for i, row in enumerate(rows)
    ]


def warm_up(
  endpoint: Endpoint,
  most: int,
  compiled: Sequence[int],
  least: Mapping[str, int] = MappingProxyType({}),
) -> None:
  """Generates two tokens, so that the first client need not wait longer.

  Args:
    endpoint: what computes.
    most: rows of a batch.
    compiled: see `batch_size`; each size up to `most` is compiled.
    least: the fewest tokens of each grammar, by its name.
  """
  requests = [Request(max_new_tokens=2, temperature=1.0)]
  for name, n_least in list(least.items())[:1]:
    request = Request(max_new_tokens=n_least + 1, temperature=1.0, grammar=name)
    requests.append(request)
  counts = range(1, most + 1) if compiled else [1]
  ids = np.zeros([1], np.int32)
  for n_rows in sorted({batch_size(n, compiled) for n in counts}):
    for request in requests:
      rows = [Row(ids, request) for _ in range(n_rows)]
      predict(endpoint, rows, 2, compiled)


def _inputs(
  rows: Sequence[Row],
  n_new: int,
  version: int,
  compiled: Sequence[int],
  has_grammars: bool,
) -> dict[str, np.ndarray]:
  width = max(len(row.ids) for row in rows)
  each = [row.options(min(n_new, row.n_left), version) for row in rows]
  if has_grammars:
    each = [o | row.grammar_inputs() for o, row in zip(each, rows, strict=True)]
  # A compiled program is for one number of strings, and of rows.
  n_stops = MAX_STRINGS if compiled else 1
  n_sent = batch_size(len(rows), compiled)
  inputs = {
    'ids': np.stack([np.pad(r.ids, [0, width - len(r.ids)]) for r in rows]),
    'stop': _stops([row.request.stop for row in rows], n_stops),
    **{key: np.concatenate([one[key] for one in each]) for key in each[0]},
  }
  # As a server does, batches are filled up with their first row.
  place = [i if i < len(rows) else 0 for i in range(n_sent)]
  return {key: value[place] for key, value in inputs.items()}


def no_grammars(name: str) -> UsageError:
  """Returns the error where a model was exported without any grammar."""
  return UsageError(
    f'grammar={name}: the model was exported without grammars; export it with '
    f'--grammar={name}=FILE'
  )


def _stops(stops: Sequence[Sequence[str]], least: int) -> np.ndarray:
  """Returns the stop strings of rows, object [B, K], '' where there is none.

  K is at least `least`. What the signature has no room for is left to the
  reader of the text.
  """
  sent = [
    [s for s in own if len(s.encode()) <= MAX_BYTES][:MAX_STRINGS]
    for own in stops
  ]
  width = max(least, *map(len, sent))
  return np.array([[*own, *[''] * (width - len(own))] for own in sent], object)
