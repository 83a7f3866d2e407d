"""A request: all options of a generation, and their checks."""

import dataclasses
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from minigpt.config.validation import as_strings
from minigpt.errors import UsageError
from minigpt.generation.sampling_fields import (
  SAMPLING_FIELDS,
  SamplingOptions,
  names_of_stage,
)

MAX_DRAFT = 64
_MAX_BEAMS = 1024
_LONE = re.compile('[\ud800-\udfff]')  # Lone surrogates, which UTF-8 excludes.
# Up to here, n ** penalty and log p / n ** penalty stay within float32 for any
# number n of tokens in a context.
_MAX_LENGTH_PENALTY = 5.0
_LARGEST = float(np.finfo(np.float32).max)
# Options that change logits before a token is chosen.
_PROCESSORS = (*names_of_stage('logits'), 'logit_bias', 'banned')


@dataclasses.dataclass(frozen=True)
class Request(SamplingOptions):
  """All options of a generation; `SamplingOptions` are those of a server.

  Creating a request does not check its values; call `check`.
  """

  stop: Sequence[str] = ()  # strings that end a text and are not part of it
  logit_bias: Mapping[int, float] = dataclasses.field(default_factory=dict)
  banned: Sequence[str] = ()  # strings that must not be generated
  num_beams: int = 1  # above 1: beam search, which ignores the temperature
  length_penalty: float = 1.0  # of beams; see `beam_search`
  grammar: str = ''  # name of the grammar the text must match; '': none
  speculate: int = 0  # length of drafts, see `prompt_lookup`; 0: no drafts

  def __post_init__(self) -> None:
    """Turns a single string into a sequence of one."""
    for name in 'stop', 'banned':
      object.__setattr__(self, name, as_strings(getattr(self, name)))

  @property
  def changes_logits(self) -> bool:
    """Returns whether the request uses a rule of `logits_processors`."""
    return any(name in _PROCESSORS for name, _ in self.changed())

  def changed(self) -> Iterator[tuple[str, Any]]:
    """Yields the name and value of each option that is not its default."""
    usual = Request()
    for field in dataclasses.fields(self):
      value = getattr(self, field.name)
      if value != getattr(usual, field.name):
        yield field.name, value

  def check(self) -> 'Request':
    """Returns the request itself.

    Raises:
      UsageError: a value is out of its range, or two exclude each other.
    """
    for holds, name, rule in (*self._sampling_checks(), *self._other_checks()):
      if not holds:
        raise UsageError(f'{name}={getattr(self, name)}: it {rule}')
    return self

  def _sampling_checks(self) -> Iterator[tuple[bool, str, str]]:
    options = vars(self)
    for name, field in SAMPLING_FIELDS.items():
      if field.range:
        yield field.accepts(options[name], options), name, field.range.rule
      misfit = field.misfit(options[name])
      yield misfit is None, name, misfit or ''

  def _other_checks(self) -> Iterator[tuple[bool, str, str]]:
    for name in 'stop', 'banned':
      strings = getattr(self, name)
      yield all(strings), name, 'must not be empty'
      yield not any(map(_LONE.search, strings)), name, 'must be Unicode'
    yield (
      all(bias <= _LARGEST for bias in self.logit_bias.values()),
      'logit_bias',
      f'must be numbers up to {_LARGEST:.3g}',
    )
    yield (
      abs(self.length_penalty) <= _MAX_LENGTH_PENALTY,
      'length_penalty',
      f'must lie in [{-_MAX_LENGTH_PENALTY:g}, {_MAX_LENGTH_PENALTY:g}]',
    )
    yield (
      1 <= self.num_beams <= _MAX_BEAMS,
      'num_beams',
      f'must lie in [1, {_MAX_BEAMS}]',
    )
    yield (
      0 <= self.speculate <= MAX_DRAFT,
      'speculate',
      f'must lie in [0, {MAX_DRAFT}]',
    )
    yield from self._exclusions()

  def _exclusions(self) -> Iterator[tuple[bool, str, str]]:
    yield (
      not self.grammar or not (self.stop or self.banned or self.min_new_tokens),
      'grammar',
      'says itself where a text ends: leave out stop, banned, min_new_tokens',
    )
    yield (
      not self.speculate or self.temperature == 0,
      'speculate',
      'guesses the most likely tokens, so temperature must be 0',
    )
    yield (
      not self.speculate
      or not (self.num_beams > 1 or self.changes_logits or self.grammar),
      'speculate',
      f'works without num_beams, grammar, {", ".join(_PROCESSORS)}',
    )

  def options(self, n_rows: int) -> dict[str, np.ndarray]:
    """Returns each sampling option for `n_rows` sequences, [B].

    Sequence i gets the seed `seed + i`, so that equal prompts get different
    texts.
    """
    values = {
      name: np.full([n_rows], getattr(self, name), field.dtype)
      for name, field in SAMPLING_FIELDS.items()
    }
    values['seed'] += np.arange(n_rows)
    return values
