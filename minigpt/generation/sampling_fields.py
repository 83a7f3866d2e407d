"""The one list of sampling options: what may differ from sequence to sequence.

From this table come the flags of `minigpt generate`, the fields of `Request`
and their checks, the inputs of an export's signatures and the checks in its
graph, warm-up requests, the client and its checks, and what `serve-check`
tries. A new option takes an entry here and the function that obeys it: a
filter in `sampling` or a rule in `logits_processors`.

This module imports no TensorFlow, so that `--help` answers at once.
"""

import dataclasses
import math
import numbers
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np


class Range(NamedTuple):
  """The values that an option may have, both ends included."""

  low: float
  high: float | str = math.inf  # a string names the option that is the limit
  excludes_low: bool = False

  @property
  def rule(self) -> str:
    """Returns the end of a message about a value that lies outside."""
    if isinstance(self.high, str):
      return f'must lie between {self.low:g} and {self.high}'
    if self.high == math.inf:
      return f'must be {self.low:g} or more'
    bracket = '(' if self.excludes_low else '['
    return f'must lie in {bracket}{self.low:g}, {self.high:g}]'


class SamplingField(NamedTuple):
  """One sampling option."""

  dtype: str  # of the tensor that holds one value for each sequence
  default: float
  range: Range | None  # None: every value of the dtype
  help: str
  example: float  # a value unlike the default, for warm-up and checks
  # 'loop': how long to generate; 'logits': a rule of `logits_processors`;
  # 'token': how `sampling` chooses from the logits.
  stage: str = 'token'
  # Version of the signatures that the option came with. Servers and clients
  # refuse a request with more or fewer inputs than a signature has, so no
  # signature ever gets another input: `serving.sampling_inputs` adds one.
  since: int = 1

  def accepts(self, value: Any, options: Mapping[str, Any]) -> Any:
    """Returns whether a value lies in the range; NaN never does.

    Args:
      value: a number, or a tensor of the field's dtype.
      options: all options by name, numbers or tensors as `value` is.
    """
    if self.range is None:
      return value == value
    low, high, excludes_low = self.range
    is_above = value > low if excludes_low else value >= low
    if isinstance(high, str):
      return is_above & (value <= options[high])
    if high < math.inf:
      return is_above & (value <= high)
    # An integer is never infinite, and can't be compared with infinity.
    return is_above if self.is_integer else is_above & (value < math.inf)

  def misfit(self, value: Any) -> str | None:
    """Returns the end of a message where the dtype can't hold a number."""
    if self.is_integer and not isinstance(value, numbers.Integral):
      return 'must be a whole number'
    about = np.iinfo if self.is_integer else np.finfo
    # Python's numbers, which compare with any other.
    low, high = np.array(
      [about(self.dtype).min, about(self.dtype).max]
    ).tolist()
    if value > high:
      return f'must be at most {high}, the largest {self.dtype}'
    if value < low:
      return f'must be at least {low}, the smallest {self.dtype}'
    return None

  @property
  def is_integer(self) -> bool:
    """Returns whether the option counts something."""
    return self.dtype.startswith('int')


def _option(*field: Any, **more: Any) -> Any:
  described = SamplingField(*field, **more)
  return dataclasses.field(
    default=described.default, metadata={'sampling': described}
  )


@dataclasses.dataclass(frozen=True)
class SamplingOptions:
  """The table, as a class that type checkers can read.

  Each line: dtype, default, range, help, example, and what is unusual.
  """

  max_new_tokens: int = _option(
    'int32', 200, Range(1), 'longest continuation', 4, stage='loop'
  )
  temperature: float = _option(
    'float32',
    0.8,
    Range(0),
    'below 1: more conservative, above 1: more surprising; 0: always the most '
    'likely token',
    1.0,
  )
  top_k: int = _option(
    'int32', 0, Range(0), 'sample from the k most likely tokens; 0: from all', 5
  )
  top_p: float = _option(
    'float32',
    1.0,
    Range(0, 1, excludes_low=True),
    'sample from the most likely tokens that reach this total probability',
    0.9,
  )
  seed: int = _option('int64', 0, None, 'the same seed gives the same text', 1)
  repetition_penalty: float = _option(
    'float32',
    1.0,
    Range(0.01, 100),
    'above 1: tokens that occur already become less likely',
    1.3,
    stage='logits',
  )
  min_new_tokens: int = _option(
    'int32',
    0,
    Range(0, 'max_new_tokens'),
    'tokens before the text may end',
    1,
    stage='logits',
  )
  min_p: float = _option(
    'float32',
    0.0,
    Range(0, 1),
    'sample from tokens at least this share as likely as the most likely one; '
    '0: from all',
    0.1,
    since=2,
  )


SAMPLING_FIELDS: dict[str, SamplingField] = {
  field.name: field.metadata['sampling']
  for field in dataclasses.fields(SamplingOptions)
}


def names_of_stage(stage: str) -> list[str]:
  """Returns the names of the options that one stage obeys, in their order."""
  return [name for name, f in SAMPLING_FIELDS.items() if f.stage == stage]
