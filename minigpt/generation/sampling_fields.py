"""The table of sampling options, which each sequence of a batch can set.

The flags of `minigpt generate`, the fields of `Request`, the inputs of an
export's signatures, the checks in its graph and in the client, the warm-up
requests and the tries of `serve-check` are all built from this table. A new
option needs an entry here and a function that implements it: a filter in
`sampling` or a rule in `logits_processors`.

This module imports no TensorFlow, so that `--help` answers at once.
"""

import dataclasses
import math
import numbers
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np


class Range(NamedTuple):
  """The range of an option's values, both ends included."""

  low: float
  high: float | str = math.inf  # a string names the option whose value it is
  excludes_low: bool = False

  @property
  def rule(self) -> str:
    """Returns the end of an error message: 'must ...'."""
    if isinstance(self.high, str):
      return f'must lie between {self.low:g} and {self.high}'
    if self.high == math.inf:
      return f'must be {self.low:g} or more'
    bracket = '(' if self.excludes_low else '['
    return f'must lie in {bracket}{self.low:g}, {self.high:g}]'


class SamplingField(NamedTuple):
  """One sampling option."""

  dtype: str  # of the tensor [B] of its values
  default: float
  range: Range | None  # None: every value of the dtype
  help: str
  example: float  # a value unlike the default, for warm-up and checks
  # Which code reads it: 'loop', the decoding loop; 'logits', a rule of
  # `logits_processors`; 'token', `sampling`.
  stage: str = 'token'
  # The version of the signatures that introduced the option. A server refuses
  # a request whose inputs are not exactly a signature's, so an existing
  # signature never gets a new input; `serving.sampling_inputs` adds another
  # signature instead.
  since: int = 1

  def accepts(self, value: Any, options: Mapping[str, Any]) -> Any:
    """Returns whether a value lies in the range; NaN never does.

    Args:
      value: a number, or a tensor of the field's dtype.
      options: all options by name, as numbers or tensors like `value`.
    """
    if self.range is None:
      return value == value
    low, high, excludes_low = self.range
    is_above = value > low if excludes_low else value >= low
    if isinstance(high, str):
      return is_above & (value <= options[high])
    if high < math.inf:
      return is_above & (value <= high)
    # An integer tensor is never infinite, and cannot be compared with inf.
    return is_above if self.is_integer else is_above & (value < math.inf)

  def misfit(self, value: Any) -> str | None:
    """Returns the end of an error message if the dtype cannot hold `value`."""
    if self.is_integer and not isinstance(value, numbers.Integral):
      return 'must be a whole number'
    about = np.iinfo if self.is_integer else np.finfo
    # Python numbers, as NumPy's do not compare with every `value`.
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
    """Returns whether the values are integers."""
    return self.dtype.startswith('int')


def _option(*field: Any, **more: Any) -> Any:
  described = SamplingField(*field, **more)
  return dataclasses.field(
    default=described.default, metadata={'sampling': described}
  )


@dataclasses.dataclass(frozen=True)
class SamplingOptions:
  """The table, written as a class for type checkers.

  Each entry gives dtype, default, range, help, example, and any other field
  that differs from its default.
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
  """Returns the names of one stage's options, in the table's order."""
  return [name for name, f in SAMPLING_FIELDS.items() if f.stage == stage]
