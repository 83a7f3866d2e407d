"""Generation in chunks of a few tokens, with `generate_chunk`.

The server keeps no state of a row between two calls: each call sends the tokens
in the model's context, and how many of them were sampled. So rows may join and
leave a batch at every chunk, and the result equals that of a single call.

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
# Tokens in a chunk. Each chunk reads the prompt again, so smaller chunks cost
# more; larger ones make readers wait longer.
SIZE = 16


class Chunk(NamedTuple):
  """The result of one call for a row."""

  tokens: np.ndarray  # int32 [N]
  log_probs: np.ndarray  # f32 [N], under the model at temperature 1
  # The most likely tokens at each place and their log p, [N, K], best first.
  alternatives: np.ndarray
  alternative_log_probs: np.ndarray


@dataclasses.dataclass(eq=False)  # Rows are compared by identity.
class Row:
  """The state of a text in generation."""

  ids: np.ndarray  # int32 [T], tokens in the model's context, at least one
  request: Request
  n_alternatives: int = 0  # alternatives to return for each token, at most 20
  n_sampled: int = 0
  done: bool = False
  stopped: bool = False  # the model, not the token limit, has ended the text
  grammar_state: int = 0  # the state of the text's grammar

  @property
  def n_left(self) -> int:
    """Returns how many more tokens the request allows."""
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
    """Returns the inputs for the grammar, each [1]."""
    return {
      'grammar': np.array([self.request.grammar], object),
      'grammar_state': np.array([self.grammar_state], np.int32),
      'num_left': np.array([self.n_left], np.int32),
    }

  def take(self, answer: Mapping[str, Any]) -> Chunk:
    """Adds the row's part of an answer, and returns the new tokens.

    Raises:
      ValueError: the numbers in the answer contradict each other.
    """
    n, n_seen = int(answer['num_tokens']), int(answer['next_prompt_len'])
    # An unfinished row must get a token, or the caller would loop for ever.
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
  """Returns new tokens without a final end-of-text token."""
  is_end = len(tokens) > 0 and tokens[-1] == end_of_text
  return tokens[:-1] if is_end else tokens


def has_chunks(endpoint: Endpoint) -> bool:
  """Returns whether the export has the signature `generate_chunk`."""
  return SIGNATURE in endpoint.signatures()


def limit(endpoint: Endpoint) -> int:
  """Returns the largest number of tokens that one call can generate.

  Raises:
    EndpointError: the export is too old: it has no such signature.
  """
  outputs = pick(endpoint.signatures(), SIGNATURE).outputs
  with malformed(f'no limit in {SIGNATURE}'):
    return int(outputs['tokens'].shape[1])


def batch_size(n_rows: int, compiled: Sequence[int]) -> int:
  """Returns how many rows to send for `n_rows`.

  Args:
    n_rows: 1 or more.
    compiled: batch sizes for which programs are compiled; larger batches are
      rounded up to powers of two. Empty if nothing is compiled, so that any
      size will do.
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
  """Generates up to `n_new` more tokens for each row, in one call.

  Args:
    endpoint: the export or server.
    rows: at least one.
    n_new: at most `limit(endpoint)`.
    compiled: compiled batch sizes; see `batch_size`.

  Raises:
    UsageError: a row sets an option that is newer than the export.
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
  """Generates two tokens, so that the first client does not wait longer.

  Args:
    endpoint: the export or server.
    most: the largest number of rows in a batch.
    compiled: see `batch_size`; each size up to `most` is warmed up.
    least: the fewest tokens of each grammar, by name.
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
  # A compiled program has a fixed number of strings and of rows.
  n_stops = MAX_STRINGS if compiled else 1
  n_sent = batch_size(len(rows), compiled)
  inputs = {
    'ids': np.stack([np.pad(r.ids, [0, width - len(r.ids)]) for r in rows]),
    'stop': _stops([row.request.stop for row in rows], n_stops),
    **{key: np.concatenate([one[key] for one in each]) for key in each[0]},
  }
  # Pad the batch with copies of its first row, as TensorFlow Serving does.
  place = [i if i < len(rows) else 0 for i in range(n_sent)]
  return {key: value[place] for key, value in inputs.items()}


def no_grammars(name: str) -> UsageError:
  """Returns the error for an export without grammars."""
  return UsageError(
    f'grammar={name}: the model was exported without grammars; export it with '
    f'--grammar={name}=FILE'
  )


def _stops(stops: Sequence[Sequence[str]], least: int) -> np.ndarray:
  """Returns the stop strings of rows, object [B, K], padded with ''.

  K is at least `least`. Strings beyond the signature's limits are left out; the
  caller must look for these itself.
  """
  sent = [
    [s for s in own if len(s.encode()) <= MAX_BYTES][:MAX_STRINGS]
    for own in stops
  ]
  width = max(least, *map(len, sent))
  return np.array([[*own, *[''] * (width - len(own))] for own in sent], object)
