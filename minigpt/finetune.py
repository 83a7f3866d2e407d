"""Training that starts from the weights of another model."""

import dataclasses
from pathlib import Path
from typing import Any

import tensorflow as tf

from minigpt import workdir
from minigpt.config import GPTConfig
from minigpt.errors import InputError, UsageError
from minigpt.params import Params
from minigpt.pretrained import Pretrained

# What may differ from the model that training starts from.
_FREE = {'drop_rate', 'context_length'}


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
    if longer or (name not in _FREE and given[name] != values[name]):
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


def load_start(path: str, config: GPTConfig) -> Params:
  """Reads the weights for a run of `config`; a shorter context cuts wpe.

  Raises:
    InputError: the model is not there, or no longer the one of `config`.
  """
  found, weights = workdir.load_weights(Path(path))
  free = {name: getattr(config, name) for name in _FREE}
  if (
    dataclasses.replace(found, **free) != config
    or config.context_length > found.context_length
  ):
    raise InputError(
      f'{path} is no longer the model that this run started from'
    )
  return weights._replace(wpe=weights.wpe[: config.context_length])


def assign(variables: Params, weights: Params) -> None:
  tf.nest.map_structure(lambda v, w: v.assign(w), variables, weights)
