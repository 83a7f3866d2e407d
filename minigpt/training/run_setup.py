"""How a run is begun: from nothing, or from the weights of another model."""

import dataclasses
from collections.abc import Mapping
from typing import Any

from minigpt.checkpoints.loading import CHANGEABLE_AT_START, LoadedModel
from minigpt.errors import UsageError


def start_values(
  start: LoadedModel, overrides: Mapping[str, Any]
) -> dict[str, Any]:
  """Returns the model's and the tokenizer's settings of a run that starts there.

  Args:
    start: the model of --init_from.
    overrides: values that were set explicitly, by the names of their fields.

  Raises:
    UsageError: an override contradicts the model.
  """
  values = dataclasses.asdict(start.config)
  for name in values.keys() & overrides.keys():
    value, known = overrides[name], values[name]
    longer = name == 'context_length' and value > known
    if longer or (name not in CHANGEABLE_AT_START and value != known):
      raise UsageError(
        f'--{name}={value}: the model of --init_from has {known}; leave the '
        'flag out'
      )
    values[name] = value
  name = start.tokenizer.name
  if overrides.get('tokenizer', name) != name:
    raise UsageError(
      f'--tokenizer={overrides["tokenizer"]}: the model of --init_from comes '
      f'with {name}; leave the flag out'
    )
  return values | {'tokenizer': name}
