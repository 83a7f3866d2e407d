"""Invalid values, and their error messages."""

import dataclasses
import types

import pytest

from minigpt.config import DataConfig, GPTConfig, TrainConfig, validation
from minigpt.errors import UsageError


def test_an_option_carries_its_default_and_its_help():
  field = validation.option(3, 'how many')
  assert (field.default, field.metadata['help']) == (3, 'how many')


@pytest.mark.parametrize(
  ('check', 'good', 'bad'),
  [
    (validation.check_positive, [1e-9, 1, 2**31 - 1], [0, -1, 2**31]),
    (validation.check_not_negative, [0, 0.5, 2**31 - 1], [-1, 2**31]),
    (validation.check_fraction, [0, 0.999], [-0.1, 1, 2]),
  ],
)
def test_ranges_end_where_they_should(check, good, bad):
  for value in good:
    check(types.SimpleNamespace(a=value), 'a')
  for value in [*bad, float('nan')]:
    with pytest.raises(UsageError, match=f'a={value}: it must'):
      check(types.SimpleNamespace(a=value), 'a')


@pytest.mark.parametrize(
  ('config', 'values', 'message'),
  [
    (GPTConfig, dict(emb_dim=10, n_heads=3), 'emb_dim=10 is not divisible'),
    (GPTConfig, dict(drop_rate=1.0), 'drop_rate=1.0: it must lie'),
    (GPTConfig, dict(vocab_padding=-1), 'vocab_padding=-1'),
    (DataConfig, dict(val_fraction=1.0), 'val_fraction=1.0'),
    (DataConfig, dict(stride=-1), 'stride=-1'),
    (TrainConfig, dict(keep_checkpoints=0), 'keep_checkpoints=0'),
    (TrainConfig, dict(decay_share=0.0), 'decay_share=0.0'),
    (TrainConfig, dict(lora_rank=2), 'give --init_from'),
    (TrainConfig, dict(min_learning_rate=1.0), 'is above learning_rate'),
    (TrainConfig, dict(optimizer='adan'), "did you mean 'adamw'"),
    (TrainConfig, dict(schedule='cos'), "did you mean 'cosine'"),
    (TrainConfig, dict(compile='xls'), "did you mean 'xla'"),
    (TrainConfig, dict(compute_dtype='float16'), 'unknown compute_dtype'),
  ],
)
def test_a_config_refuses_what_makes_no_sense(config, values, message):
  with pytest.raises(UsageError, match=message):
    config(**values)


def test_every_number_of_a_recipe_is_checked():
  """A new field without a check would accept any value."""
  free = {'decay_share', 'min_learning_rate'}
  for field in dataclasses.fields(TrainConfig):
    if field.type in (int, float) and field.name not in free:
      with pytest.raises(UsageError, match=f'{field.name}='):
        TrainConfig(**{field.name: -1, 'init_from': 'a'})


@pytest.mark.parametrize(
  ('config', 'values', 'message'),
  [
    (TrainConfig, {'steps': 10.5}, r'steps=10\.5: it must be an integer'),
    (TrainConfig, {'steps': 10.0}, r'steps=10\.0: it must be an integer'),
    (TrainConfig, {'steps': True}, 'steps=True: it must be an integer'),
    (TrainConfig, {'steps': '10'}, "steps='10': it must be an integer"),
    (TrainConfig, {'beta1': '0.9'}, "beta1='0.9': it must be a number"),
    (TrainConfig, {'beta1': None}, 'beta1=None: it must be a number'),
    (TrainConfig, {'learning_rate': 10**400}, 'too large'),
    (TrainConfig, {'learning_rate': float('nan')}, 'learning_rate=nan'),
    (TrainConfig, {'stepz': 1}, "no setting 'stepz'"),
    (GPTConfig, {'bias': 1}, 'bias=1: it must be true or false'),
    (GPTConfig, {'emb_dim': 64.0}, r'emb_dim=64\.0: it must be an integer'),
    (DataConfig, {'dataset': 7}, 'dataset=7: it must be a string'),
    (DataConfig, {'special': 'a'}, "special='a': it must be a list of str"),
    (DataConfig, {'special': ['a', 1]}, 'it must be a list of strings'),
    (DataConfig, [], 'is no object'),
  ],
)
def test_json_is_read_as_strictly_as_flags(config, values, message):
  with pytest.raises(ValueError, match=message):
    validation.from_json(config, values)


def test_json_becomes_a_config():
  found = validation.from_json(TrainConfig, {'learning_rate': 1, 'steps': 3})
  assert found == TrainConfig(learning_rate=1.0, steps=3)
  assert type(found.learning_rate) is float
  found = validation.from_json(DataConfig, {'special': ['<a>', '<b>']})
  assert found == DataConfig(special=('<a>', '<b>'))


def test_a_lone_string_is_no_list_of_characters():
  assert validation.as_strings('ab') == ['ab']
  assert validation.as_strings(('ab', 'c')) == ('ab', 'c')
  assert DataConfig(special='<a>').special == ('<a>',)
