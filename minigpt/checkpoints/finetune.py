"""Training that starts from the weights of another model."""

import dataclasses
from typing import Any

from minigpt.checkpoints.loading import Pretrained
from minigpt.checkpoints.workdir import OWN
from minigpt.errors import UsageError


def start_values(start: Pretrained, given: dict[str, Any]) -> dict[str, Any]:
  """The model's and the tokenizer's settings of a run that starts there.

  Args:
    given: what was asked for by hand.

  Raises:
    UsageError: it contradicts the model.
  """
  values = dataclasses.asdict(start.config)
  for name in values.keys() & given.keys():
    longer = name == 'context_length' and given[name] > values[name]
    if longer or (name not in OWN and given[name] != values[name]):
      raise UsageError(
        f'--{name}={given[name]}: the model of --init_from has '
        f'{values[name]}; leave the flag out'
      )
    values[name] = given[name]
  name = start.tokenizer.name
  if given.get('tokenizer', name) != name:
    raise UsageError(
      f'--tokenizer={given["tokenizer"]}: the model of --init_from comes with '
      f'{name}; leave the flag out'
    )
  return values | {'tokenizer': name}
