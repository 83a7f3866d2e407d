"""Prompts and completions as rows of tokens, several in each row.

An example is its prompt, its completion and an end of text. Only the last two
count in the loss. No example sees another (`model.gpt` under `segments`), so
a row gives what its examples would give alone, without their padding.

Shapes: N rows, B batch, T context.
"""

import bisect
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from minigpt.data.jsonl import Pair
from minigpt.errors import InputError
from minigpt.tokenizers import Tokenizer


class Packed(NamedTuple):
  """A batch; `data.EvalBatch` with segments."""

  windows: np.ndarray  # int32 [..., T + 1]
  weights: np.ndarray  # float32 [..., T], of each target in the loss
  segments: np.ndarray  # int32 [..., T], counted from 1; 0 is padding


class Rows(NamedTuple):
  """All rows; what `data.Windows` is to running text."""

  tokens: np.ndarray  # int32 [N, T + 1]
  segments: np.ndarray  # int32 [N, T + 1]
  is_target: np.ndarray  # bool [N, T + 1], completions and their ends
  stride: int = 1  # between the starts of `data.window_order`

  @property
  def count(self) -> int:
    return len(self.tokens)

  @property
  def n_tokens(self) -> int:
    return int(np.count_nonzero(self.segments))

  def batch(self, rows: np.ndarray) -> Packed:  # [...] -> [..., T + 1]
    """The rows with a weight of 1 for each target."""
    return Packed(
      self.tokens[rows],
      self.is_target[rows, 1:].astype(np.float32),
      self.segments[rows, :-1],
    )

  def at(self, rows: np.ndarray) -> Packed:  # [..., A, B] -> [..., A, B, T + 1]
    """The rows with weights that make the sum over A and B, averaged over A,
    the mean over all targets, however they fall on the batches."""
    packed = self.batch(rows)
    n_targets = packed.weights.sum((-3, -2, -1), keepdims=True)
    n_batches = np.float32(rows.shape[-2])
    return packed._replace(weights=packed.weights * n_batches / n_targets)


def ends_with_line(tokenizer: Tokenizer) -> bool:
  """Whether completions end with a line feed: there is no end of text."""
  return tokenizer.end_of_text is None


def _end(tokenizer: Tokenizer) -> int:
  if not ends_with_line(tokenizer):
    return tokenizer.end_of_text
  try:
    return int(tokenizer.encode('\n')[0])
  except InputError:
    raise InputError(
      f'the {tokenizer.name} tokenizer knows no end of text and no line feed: '
      'completions could not end; start from a model that knows one'
    ) from None


class _Example(NamedTuple):
  tokens: np.ndarray  # int32 [n]
  n_prompt: int  # at least 1: nothing predicts the first token


def _encode(pair: Pair, tokenizer: Tokenizer, end: int) -> _Example:
  if ends_with_line(tokenizer) and '\n' in pair.completion:
    raise InputError(
      f'{pair.where}: its completion holds a line feed, which ends completions '
      f'with the {tokenizer.name} tokenizer'
    )
  try:
    prompt = tokenizer.encode(pair.prompt)
    completion = tokenizer.encode(pair.completion)
  except InputError as error:
    raise InputError(f'{pair.where}: {error}') from None
  prompt = prompt if len(prompt) else [end]
  tokens = np.concatenate([prompt, completion, [end]]).astype(np.int32)
  return _Example(tokens, len(prompt))


def _fitted(example: _Example, pair: Pair, room: int, truncate: bool):
  """The example cut at the left where it is too long and that is allowed."""
  surplus = len(example.tokens) - room
  if surplus <= 0:
    return example
  if not truncate:
    raise InputError(
      f'{pair.where}: the example has {len(example.tokens)} tokens, a row only '
      f'{room} (context_length + 1); --truncate cuts its beginning'
    )
  return _Example(example.tokens[surplus:], max(example.n_prompt - surplus, 1))


def pack(
  pairs: Sequence[Pair],
  tokenizer: Tokenizer,
  context_length: int,
  truncate: bool = False,
) -> Rows:
  """Encodes the pairs and lays them side by side.

  Args:
    truncate: cut an example that is too long; otherwise it is refused.

  Raises:
    InputError: a pair is too long, or the tokenizer does not know its text.
  """
  room = context_length + 1
  end = _end(tokenizer)
  examples = [
    _fitted(_encode(pair, tokenizer, end), pair, room, truncate)
    for pair in pairs
  ]
  places = best_fit([len(example.tokens) for example in examples], room)
  n_rows = 1 + max(row for row, _, _ in places)
  rows = Rows(
    tokens=np.full([n_rows, room], end, np.int32),
    segments=np.zeros([n_rows, room], np.int32),
    is_target=np.zeros([n_rows, room], bool),
  )
  for example, (row, start, number) in zip(examples, places, strict=True):
    stop = start + len(example.tokens)
    rows.tokens[row, start:stop] = example.tokens
    rows.segments[row, start:stop] = number
    rows.is_target[row, start + example.n_prompt : stop] = True
  return rows


def best_fit(lengths: Sequence[int], room: int) -> list[tuple[int, int, int]]:
  """Lays each length into the row that it fills best, the longest first.

  Returns:
    For each length its row, where it starts there, and its number in the row,
    counted from 1.
  """
  places = [(0, 0, 0)] * len(lengths)
  free = []  # (space, row), sorted
  n_in_row = []
  for i in sorted(range(len(lengths)), key=lambda i: -lengths[i]):
    fitting = bisect.bisect_left(free, (lengths[i], 0))
    if fitting < len(free):
      space, row = free.pop(fitting)
    else:
      space, row = room, len(n_in_row)
      n_in_row.append(0)
    n_in_row[row] += 1
    places[i] = (row, room - space, n_in_row[row])
    bisect.insort(free, (space - lengths[i], row))
  return places


def eval_batches(
  rows: Rows, batch_size: int, limit: int = 0
) -> Iterator[Packed]:
  """All rows in turn; those that fill up the last batch have no weight.

  Args:
    limit: number of batches, evenly spread over the rows; 0: all of them.
  """
  places = np.arange(rows.count)
  if limit and limit * batch_size < rows.count:
    spread = np.linspace(0, rows.count - 1, limit * batch_size)
    places = spread.astype(np.int64)
  for i in range(0, len(places), batch_size):
    chosen = places[i : i + batch_size]
    n_filled = batch_size - len(chosen)
    batch = rows.batch(np.pad(chosen, [0, n_filled]))
    batch.weights[len(chosen) :] = 0
    yield batch
