import dataclasses

import numpy as np
import pytest
import tensorflow as tf

from minigpt.compiler import jit
from minigpt.config import GPTConfig, TrainConfig
from minigpt.model import lora
from minigpt.model.params import named_leaves, specs
from minigpt.training.muon import newton_schulz
from minigpt.training.optimizers import (
  Moments,
  adamw_rule,
  clip_scale,
  global_norm,
  muon_rule,
  update,
  update_rules,
)
from minigpt.training.schedules import learning_rate

RECIPE = TrainConfig(
  steps=110,
  warmup_steps=10,
  learning_rate=1e-2,
  min_learning_rate=1e-3,
  beta1=0.9,
  beta2=0.99,
  weight_decay=0.1,
)


def test_global_norm_is_that_of_one_long_vector():
  rng = np.random.default_rng(0)
  shapes = [50, 30], [30], [2, 3, 4], []
  tree = {str(shape): rng.normal(size=shape) for shape in shapes}
  whole = np.concatenate([part.ravel() for part in tree.values()])
  found = jit.compiled(global_norm)(
    tf.nest.map_structure(lambda x: tf.constant(x, tf.float32), tree)
  )
  np.testing.assert_allclose(found, np.linalg.norm(whole), rtol=1e-6)


def test_global_norm_adds_up_what_falls_on_one_row():
  """So is the gradient of an embedding that is not tied to the head."""
  twice = tf.IndexedSlices(tf.ones([2, 1]), tf.constant([1, 1]), [3, 1])
  np.testing.assert_allclose(global_norm([twice]), 2.0)


@pytest.mark.parametrize(
  ('step', 'rate'),
  [(0, 1e-2 / 11), (9, 1e-1 / 11), (10, 1e-2), (60, 5.5e-3), (110, 1e-3)],
)
def test_learning_rate_warms_up_and_falls_by_half_a_cosine(step, rate):
  found = learning_rate(tf.constant(step, tf.int64), RECIPE)
  np.testing.assert_allclose(found, rate, rtol=1e-5)


@pytest.mark.parametrize(
  ('step', 'rate'),
  [
    (9, 1e-1 / 11),
    (10, 1e-2),
    (89, 1e-2),
    (90, 1e-2),
    (100, 5.5e-3),
    (110, 1e-3),
  ],
)
def test_wsd_stays_high_and_falls_in_a_line(step, rate):
  recipe = dataclasses.replace(RECIPE, schedule='wsd', decay_share=0.2)
  found = learning_rate(tf.constant(step, tf.int64), recipe)
  np.testing.assert_allclose(found, rate, rtol=1e-5)


def test_clipping_brings_the_norm_down_to_the_limit():
  assert clip_scale(tf.constant(4.0), 1.0).numpy() == 0.25
  assert clip_scale(tf.constant(0.5), 1.0).numpy() == 1
  assert clip_scale(tf.constant(4.0), 0.0).numpy() == 1


@pytest.mark.parametrize('shape', [[3, 2], [3]])
def test_adamw_follows_the_paper(shape):
  """Compares with Loshchilov & Hutter 2019, algorithm 2, in NumPy."""
  rng = np.random.default_rng(0)
  param = expected = rng.normal(size=shape).astype(np.float32)
  moments = Moments(np.zeros(shape, 'f'), np.zeros(shape, 'f'))
  m = v = np.zeros(shape)
  decay = 0.1 if len(shape) == 2 else 0.0
  for step in range(3):
    grad = rng.normal(size=shape).astype(np.float32)
    param, *moments = update(
      tf.constant(param),
      grad,
      Moments(*moments),
      step,
      0.01,
      config=RECIPE,
      rule=adamw_rule,
    )
    m, v = 0.9 * m + 0.1 * grad, 0.99 * v + 0.01 * grad**2
    adam = (m / (1 - 0.9 ** (step + 1))) / (
      np.sqrt(v / (1 - 0.99 ** (step + 1))) + 1e-8
    )
    expected = expected - 0.01 * (adam + decay * expected)
  np.testing.assert_allclose(param, expected, rtol=1e-4, atol=1e-6)


def orthogonal_by_hand(x):
  """Computes `zeropower_via_newtonschulz5` of the post on Muon in NumPy."""
  x = x / np.linalg.norm(x)
  if len(x) > len(x.T):
    return orthogonal_by_hand(x.T).T
  for _ in range(5):
    a = x @ x.T
    x = 3.4445 * x + (-4.7750 * a + 2.0315 * a @ a) @ x
  return x


@pytest.mark.parametrize('shape', [(5, 8), (8, 5)])
def test_singular_values_become_one(shape):
  x = np.random.default_rng(1).normal(size=(3, *shape))
  found = newton_schulz(tf.constant(x)).numpy()
  values = np.linalg.svd(found, compute_uv=False)
  assert 0.6 < values.min() < values.max() < 1.3
  # The singular vectors are kept: U' found V is diagonal.
  u, _, v = np.linalg.svd(x, full_matrices=False)
  inner = u.swapaxes(1, 2) @ found @ v.swapaxes(1, 2)
  assert np.abs(inner * (1 - np.eye(5))).max() < 1e-6


@pytest.mark.parametrize(('shape', 'n_parts'), [((3, 5), 1), ((4, 6), 3)])
def test_muon_follows_its_equations(shape, n_parts):
  """Uses the post's momentum and iteration, Liu et al.'s size and decay."""
  rng = np.random.default_rng(0)
  param = expected = rng.normal(size=shape).astype(np.float32)
  moments = Moments(np.zeros(shape, 'f'), np.zeros(shape, 'f'))
  momentum = np.zeros(shape)

  def rule(*args):
    return muon_rule(*args, n_parts=n_parts)

  for step in range(3):
    grad = rng.normal(size=shape).astype(np.float32)
    param, *moments = update(
      tf.constant(param),
      2 * grad,
      Moments(*moments),
      step,
      0.01,
      0.5,
      config=RECIPE,
      rule=rule,
    )
    momentum = 0.9 * momentum + 0.1 * grad
    parts = np.split(momentum, n_parts, axis=1)
    size = 0.2 * max(parts[0].shape) ** 0.5
    muon = size * np.concatenate([*map(orthogonal_by_hand, parts)], 1)
    expected = expected - 0.01 * (muon + 0.1 * expected)
  np.testing.assert_allclose(param, expected, rtol=1e-4, atol=1e-5)


def test_muon_moves_the_weights_of_the_blocks_alone():
  config = GPTConfig(8, 4, 4, 2, 1, qkv_bias=True, tie_embeddings=False)
  recipe = dataclasses.replace(RECIPE, optimizer='muon')
  chosen = named_leaves(update_rules(specs(config), recipe))
  hidden = {name for name, rule in chosen.items() if rule != adamw_rule}
  weights = {'attn.c_attn.w', 'attn.c_proj.w', 'mlp.c_fc.w', 'mlp.c_proj.w'}
  assert hidden == {f'blocks.0.{name}' for name in weights}
  qkv = chosen['blocks.0.attn.c_attn.w']
  assert qkv.keywords == {'n_parts': 3}
  assert chosen['blocks.0.mlp.c_fc.w'] == muon_rule
  all_adamw = update_rules(specs(config), RECIPE)
  assert set(named_leaves(all_adamw).values()) == {adamw_rule}


def test_muon_moves_every_adapter():
  recipe = dataclasses.replace(RECIPE, optimizer='muon')
  adapters = lora.init_adapters(GPTConfig(8, 4, 4, 2, 1), rank=2)
  chosen = named_leaves(update_rules(adapters, recipe))
  parts = {
    name for name, rule in chosen.items() if getattr(rule, 'keywords', None)
  }
  assert parts == {'0.attn.c_attn.b'}
  assert adamw_rule not in chosen.values()
