import numpy as np
import pytest
import tensorflow as tf

from minigpt.config import TrainConfig
from minigpt.optim import Moments, adamw_update, clip_scale, learning_rate

RECIPE = TrainConfig(
  steps=110,
  warmup_steps=10,
  learning_rate=1e-2,
  min_learning_rate=1e-3,
  beta1=0.9,
  beta2=0.99,
  weight_decay=0.1,
)


@pytest.mark.parametrize(
  ('step', 'rate'),
  [(0, 1e-2 / 11), (9, 1e-1 / 11), (10, 1e-2), (60, 5.5e-3), (110, 1e-3)],
)
def test_learning_rate_warms_up_and_falls_by_half_a_cosine(step, rate):
  found = learning_rate(tf.constant(step, tf.int64), RECIPE)
  np.testing.assert_allclose(found, rate, rtol=1e-5)


def test_clipping_brings_the_norm_down_to_the_limit():
  assert clip_scale(tf.constant(4.0), 1.0).numpy() == 0.25
  assert clip_scale(tf.constant(0.5), 1.0).numpy() == 1
  assert clip_scale(tf.constant(4.0), 0.0).numpy() == 1


@pytest.mark.parametrize('shape', [[3, 2], [3]])
def test_adamw_follows_the_paper(shape):
  """Loshchilov & Hutter 2019, algorithm 2, in NumPy over three steps."""
  rng = np.random.default_rng(0)
  param = expected = rng.normal(size=shape).astype(np.float32)
  moments = Moments(np.zeros(shape, 'f'), np.zeros(shape, 'f'))
  m = v = np.zeros(shape)
  decay = 0.1 if len(shape) == 2 else 0.0
  for step in range(3):
    grad = rng.normal(size=shape).astype(np.float32)
    param, *moments = adamw_update(
      tf.constant(param), grad, Moments(*moments), step, 0.01, RECIPE
    )
    m, v = 0.9 * m + 0.1 * grad, 0.99 * v + 0.01 * grad**2
    adam = (m / (1 - 0.9 ** (step + 1))) / (
      np.sqrt(v / (1 - 0.99 ** (step + 1))) + 1e-8
    )
    expected = expected - 0.01 * (adam + decay * expected)
  np.testing.assert_allclose(param, expected, rtol=1e-4, atol=1e-6)
