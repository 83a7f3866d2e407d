"""What to generate, and how: a request and its checks."""

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
_LONE = re.compile('[\ud800-\udfff]')  # Surrogates, which are no text.
# Then n ** penalty and log p / n ** penalty are float32 numbers for as many
# tokens n as a context can hold.
_MAX_LENGTH_PENALTY = 5.0
_LARGEST = float(np.finfo(np.float32).max)
# Options that change logits before a token is chosen.
_PROCESSORS = (*names_of_stage('logits'), 'logit_bias', 'banned')


@dataclasses.dataclass(frozen=True)
class Request(SamplingOptions):
  """All that can be asked of a model; a server offers `SamplingOptions` alone.

  `check` raises UsageError where a value is out of its range.
  """

  stop: Sequence[str] = ()  # strings that end a text, and are no part of it
  logit_bias: Mapping[int, float] = dataclasses.field(default_factory=dict)
  banned: Sequence[str] = ()  # strings that must not be generated
  num_beams: int = 1  # from 2 on, nothing is sampled: temperature is ignored
  length_penalty: float = 1.0  # of beams; see `beam_search`
  grammar: str = ''  # name of what the text must match; '': anything
  speculate: int = 0  # longest draft of `prompt_lookup`, which keeps the text

  def __post_init__(self) -> None:
    """Takes a lone string as one of its kind."""
    for name in 'stop', 'banned':
      object.__setattr__(self, name, as_strings(getattr(self, name)))

  @property
  def changes_logits(self) -> bool:
    """Returns whether a rule of `logits_processors` is asked for."""
    return any(name in _PROCESSORS for name, _ in self.changed())

  def changed(self) -> Iterator[tuple[str, Any]]:
    """Yields the name and value of each option that is not at its default."""
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

    Sequence i gets the seed `seed + i`, so that equal prompts differ.
    """
    values = {
      name: np.full([n_rows], getattr(self, name), field.dtype)
      for name, field in SAMPLING_FIELDS.items()
    }
    values['seed'] += np.arange(n_rows)
    return values
