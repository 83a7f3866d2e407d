"""Packs prompts and completions into sequences, several in each.

An example is a prompt, its completion and an end of text; only the last two
count in the loss. No example sees another (`segments` of `gpt`), so a packed
sequence gives the same results as its examples alone, but with less padding.

Shapes: N sequences, A accumulated gradients, B batch, T context.
"""

import bisect
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from minigpt.data.batches import evenly_spread
from minigpt.data.jsonl import Pair
from minigpt.data.sources import UnfitTextError
from minigpt.errors import InputError
from minigpt.tokenizers import Tokenizer, encode_prompt


class PackedBatch(NamedTuple):
  """An `EvalBatch` with segments."""

  windows: np.ndarray  # int32 [..., T + 1]
  weights: np.ndarray  # float32 [..., T], of each target in the loss
  segments: np.ndarray  # int32 [..., T], counted from 1; 0 is padding


class PackedExamples(NamedTuple):
  """All sequences; the counterpart of `Windows` for packed examples."""

  tokens: np.ndarray  # int32 [N, T + 1]
  segments: np.ndarray  # int32 [N, T + 1]
  is_target: np.ndarray  # bool [N, T + 1], completions and their ends
  stride: int = 1  # for `window_order`: sequences are numbered from 0

  @property
  def n_examples(self) -> int:
    """Counts the sequences."""
    return len(self.tokens)

  @property
  def n_tokens(self) -> int:
    """Counts the tokens without padding."""
    return int(np.count_nonzero(self.segments))

  def batch(self, places: np.ndarray) -> PackedBatch:  # [...] -> [..., T + 1]
    """Returns the sequences at these places, with a weight of 1 per target."""
    return PackedBatch(
      self.tokens[places],
      self.is_target[places, 1:].astype(np.float32),
      self.segments[places, :-1],
    )

  def at(
    self, starts: np.ndarray
  ) -> PackedBatch:  # [..., A, B] -> [..., T + 1]
    """Returns the sequences with weights that sum to a mean.

    The weighted losses, summed over B and averaged over A, are the mean over
    all targets, even if the A batches have different numbers of targets.
    """
    packed = self.batch(starts)
    n_targets = packed.weights.sum((-3, -2, -1), keepdims=True)
    n_batches = np.float32(starts.shape[-2])
    return packed._replace(weights=packed.weights * n_batches / n_targets)


def ends_with_line(tokenizer: Tokenizer) -> bool:
  """Tells whether completions end with a line feed, without an end of text."""
  return tokenizer.end_of_text is None


def _end_token(tokenizer: Tokenizer) -> int:
  if tokenizer.boundary is None:
    raise InputError(
      f'the {tokenizer.name} tokenizer knows no end of text and no line feed: '
      'completions could not end; start from a model that knows one'
    )
  return tokenizer.boundary


class _Example(NamedTuple):
  tokens: np.ndarray  # int32 [n]
  n_prompt: int  # at least 1, as the first token cannot be a target


def _encode(pair: Pair, tokenizer: Tokenizer, end: int) -> _Example:
  if ends_with_line(tokenizer) and '\n' in pair.completion:
    raise UnfitTextError(
      f'{pair.where}: its completion holds a line feed, which ends completions '
      f'with the {tokenizer.name} tokenizer'
    )
  try:
    prompt = encode_prompt(tokenizer, pair.prompt)
    completion = tokenizer.encode(pair.completion)
  except InputError as error:
    raise UnfitTextError(f'{pair.where}: {error}') from None
  tokens = np.concatenate([prompt, completion, [end]]).astype(np.int32)
  return _Example(tokens, len(prompt))


def _fit(example: _Example, pair: Pair, room: int, truncate: bool) -> _Example:
  """Cuts the beginning of an example that is too long, or refuses it."""
  surplus = len(example.tokens) - room
  if surplus <= 0:
    return example
  if not truncate:
    raise UnfitTextError(
      f'{pair.where}: the example has {len(example.tokens)} tokens, a row only '
      f'{room} (context_length + 1); --truncate cuts its beginning'
    )
  return _Example(example.tokens[surplus:], max(example.n_prompt - surplus, 1))


def pack(
  pairs: Sequence[Pair],
  tokenizer: Tokenizer,
  context_length: int,
  truncate: bool = False,
) -> PackedExamples:
  """Encodes the pairs and packs them into sequences.

  Args:
    pairs: at least one.
    tokenizer: encodes the text; it must have a `boundary`.
    context_length: T.
    truncate: cut examples that are too long, instead of refusing them.

  Raises:
    UnfitTextError: a pair is too long, or contains text outside the vocabulary.
    InputError: the tokenizer has no token that could end a completion.
  """
  room = context_length + 1
  end = _end_token(tokenizer)
  examples = [
    _fit(_encode(pair, tokenizer, end), pair, room, truncate) for pair in pairs
  ]
  places = best_fit([len(example.tokens) for example in examples], room)
  n_rows = 1 + max(place.row for place in places)
  packed = PackedExamples(
    tokens=np.full([n_rows, room], end, np.int32),
    segments=np.zeros([n_rows, room], np.int32),
    is_target=np.zeros([n_rows, room], bool),
  )
  for example, place in zip(examples, places, strict=True):
    row, start = place.row, place.start
    stop = start + len(example.tokens)
    packed.tokens[row, start:stop] = example.tokens
    packed.segments[row, start:stop] = place.segment
    packed.is_target[row, start + example.n_prompt : stop] = True
  return packed


class Place(NamedTuple):
  """The position of an example."""

  row: int
  start: int
  segment: int  # its number in the row, counted from 1


def best_fit(lengths: Sequence[int], room: int) -> list[Place]:
  """Puts each length into the fullest row with enough space, longest first.

  This is best-fit decreasing, a heuristic for bin packing (Johnson 1974).

  Args:
    lengths: of the examples, none above `room`.
    room: the length of a row.

  Returns:
    The place of each length.
  """
  places = [Place(0, 0, 0)] * len(lengths)
  free: list[tuple[int, int]] = []  # (space, row), sorted
  n_in_row: list[int] = []
  for i in sorted(range(len(lengths)), key=lambda i: -lengths[i]):
    tightest = bisect.bisect_left(free, (lengths[i], 0))
    if tightest < len(free):
      space, row = free.pop(tightest)
    else:
      space, row = room, len(n_in_row)
      n_in_row.append(0)
    n_in_row[row] += 1
    places[i] = Place(row, room - space, n_in_row[row])
    bisect.insort(free, (space - lengths[i], row))
  return places


def packed_eval_batches(
  examples: PackedExamples, batch_size: int, limit: int = 0
) -> Iterator[PackedBatch]:
  """Yields all sequences in order; padding of the last batch has weight 0.

  Args:
    examples: the sequences.
    batch_size: B.
    limit: number of batches, evenly spread over the sequences; 0: all.
  """
  places = evenly_spread(examples.n_examples, limit * batch_size)
  for i in range(0, len(places), batch_size):
    chosen = places[i : i + batch_size]
    batch = examples.batch(np.pad(chosen, [0, batch_size - len(chosen)]))
    batch.weights[len(chosen) :] = 0
    yield batch
