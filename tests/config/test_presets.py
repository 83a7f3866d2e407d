"""Presets, and how a run combines them with explicit values."""

import dataclasses

import pytest

from minigpt.config import (
  PRESETS,
  DataConfig,
  GPTConfig,
  TrainConfig,
  get_preset,
  preset_values,
  resolve,
  resolve_exclusive,
)
from minigpt.errors import UsageError


@pytest.mark.parametrize('name', PRESETS)
def test_a_preset_holds_only_fields_of_its_configs(name):
  preset = get_preset(name)
  GPTConfig(**preset.model)
  settings = resolve(preset_values(name, {}))
  assert settings.model == preset.model
  assert settings.data == DataConfig(**preset.data)
  assert settings.train == TrainConfig(**preset.train)


def test_an_unknown_preset_is_named():
  with pytest.raises(UsageError, match="did you mean 'mini'"):
    get_preset('mimi')


def test_explicit_values_override_the_preset():
  settings = resolve(preset_values('mini', {'emb_dim': 32, 'stride': 5}))
  assert settings.model['emb_dim'] == 32
  assert settings.model['n_heads'] == PRESETS['mini'].model['n_heads']
  assert settings.data.stride == 5


def test_steps_take_the_place_of_the_presets_epochs():
  assert preset_values('mini', {})['epochs'] == 10
  assert preset_values('mini', {'steps': 7})['epochs'] == 0
  with pytest.raises(UsageError, match='give only one'):
    preset_values('mini', {'steps': 7, 'epochs': 1.0})


def test_settings_that_exclude_each_other_are_refused():
  for both in (
    {'steps': 7, 'epochs': 1.0},
    {'own_splits': True, 'val_fraction': 0.2},
    {'own_splits': True, 'val_fraction': 0.0},
  ):
    with pytest.raises(UsageError, match='give only one'):
      resolve_exclusive(both)
  for fine in ({'epochs': 1.0}, {'own_splits': False, 'val_fraction': 0.2}):
    assert resolve_exclusive(fine) == fine
  assert resolve_exclusive({'steps': 7}) == {'steps': 7, 'epochs': 0.0}


def test_a_model_to_start_from_takes_the_place_of_the_presets_model():
  values = preset_values('mini', {'init_from': 'a', 'drop_rate': 0.2})
  assert resolve(values).model == {'drop_rate': 0.2}
  assert values['batch_size'] == 2


def test_a_bad_shape_is_refused_before_any_text_is_read():
  with pytest.raises(UsageError, match='emb_dim=10'):
    resolve({'emb_dim': 10, 'n_heads': 3, 'dataset': 'no/such.txt'})


def test_the_sizes_are_those_of_gpt2():
  """Radford et al. 2019, table 2; heads are 64 wide in all of them."""
  sizes = {'124m': (12, 768), '355m': (24, 1024), '774m': (36, 1280)}
  sizes['1558m'] = (48, 1600)
  for name, (n_layers, emb_dim) in sizes.items():
    config = GPTConfig(**PRESETS[f'gpt2-{name}'].model)
    assert (config.n_layers, config.emb_dim) == (n_layers, emb_dim)
    assert config.head_dim == 64
  defaults = dataclasses.asdict(GPTConfig(**PRESETS['gpt2-124m'].model))
  assert defaults == dataclasses.asdict(GPTConfig())
