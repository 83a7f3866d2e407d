"""Matmuls with int8 weights, with oneDNN and without."""

import numpy as np
import pytest
import tensorflow as tf

from minigpt.compiler import jit
from minigpt.config import COMPILE_MODES, GPTConfig, TrainConfig
from minigpt.kernels import int8_matmul, onednn_matmul, quantize
from minigpt.model import layers
from minigpt.model.loss import loss_fn
from minigpt.model.params import Linear
from minigpt.model.transformer import GPT
from minigpt.training import step
from minigpt.training.state import TrainState


def by_hand(x, w):
  """Rounds weights to 255 levels about 0, rows of x to 256 from the lowest."""
  scale = np.abs(w).max(0) / 127
  lowest = x.min(1, keepdims=True)
  unit = (x.max(1, keepdims=True) - lowest) / 255
  levels = np.round((x - lowest) / np.where(unit > 0, unit, 1))
  return (unit * levels + lowest) @ (np.round(w / scale) * scale)


@pytest.fixture(params=['with oneDNN', 'without'])
def perhaps_onednn(request, monkeypatch):
  if request.param == 'without':
    monkeypatch.setattr(onednn_matmul, 'reads_packed', lambda *sizes: False)
  elif not onednn_matmul.reads_packed(2, 64, 64):
    pytest.skip('this machine has no oneDNN that multiplies bytes under XLA')


@pytest.mark.usefixtures('perhaps_onednn')
@pytest.mark.parametrize('mode', COMPILE_MODES)
@pytest.mark.parametrize('n_rows', [2, 8, 40])
def test_both_factors_are_rounded(n_rows, mode):
  rng = np.random.default_rng(0)
  x = rng.standard_normal([n_rows, 32]).astype(np.float32) ** 3
  x[1] = 0.7  # Nothing to round.
  w = rng.standard_normal([32, 24]).astype(np.float32)
  p = quantize.quantize(Linear(tf.Variable(w)), 'w8a8')
  found = jit.compiled(lambda x: layers.linear(x, p), mode)(tf.constant(x))
  np.testing.assert_allclose(found, by_hand(x, w), rtol=1e-4, atol=1e-3)
  error = np.abs(found - x @ w)
  assert 0 < error[1].max() < error[0].max() < 0.02 * np.abs(x @ w).max()


def test_a_single_row_is_not_rounded():
  rng = np.random.default_rng(0)
  w = Linear(tf.Variable(rng.standard_normal([32, 24]).astype(np.float32)))
  x = rng.standard_normal([1, 32]).astype(np.float32)
  of_one, of_two = (
    [
      jit.compiled(lambda x, p=p: layers.linear(x, p))(tf.constant(rows))[
        0
      ].numpy()
      for p in (quantize.quantize(w, 'int8'), quantize.quantize(w, 'w8a8'))
    ]
    for rows in (x, np.repeat(x, 2, 0))
  )
  assert of_one[0].tolist() == of_one[1].tolist()
  assert of_two[0].tolist() != of_two[1].tolist()


@pytest.mark.usefixtures('perhaps_onednn')
def test_rounding_what_weights_multiply_costs_next_to_nothing(trained):
  windows, model = trained

  def loss(weights):
    p = quantize.quantize(model.params, weights)
    f = jit.compiled(lambda w: loss_fn(w, p, model.config))
    return f(windows).numpy()

  exact = loss('float32')
  assert exact < 1
  for weights in ('int8', 'w8a8'):
    assert 0 < abs(loss(weights) - exact) < 0.01


@pytest.fixture(scope='module')
def trained():
  """Windows of a repetitive text, and a model that has learned it."""
  text = np.tile(np.random.default_rng(0).integers(0, 20, 40), 30)
  starts = np.random.default_rng(1).integers(0, len(text) - 33, 60 * 8)
  windows = np.stack([text[i : i + 33] for i in starts]).astype(np.int32)
  model = GPT(GPTConfig(20, 32, 32, 2, 2, drop_rate=0.0))
  recipe = TrainConfig(
    learning_rate=1e-2, warmup_steps=10, steps=60, batch_size=8, grad_accum=1
  )
  steps = step.compiled_train_steps(TrainState(model), model.config, recipe)
  steps(tf.constant(windows.reshape(60, 1, 8, 33)), 60)
  return tf.constant(windows[:8]), model


@pytest.mark.usefixtures('perhaps_onednn')
@pytest.mark.parametrize('n_rows', [2, 8, 40])
def test_two_bytes_for_a_number_are_next_to_exact(n_rows):
  rng = np.random.default_rng(0)
  x = rng.standard_normal([n_rows, 768]).astype(np.float32)
  x[0, :3] = 60  # As in GPT-2's activations.
  x[1] = 0.7  # Nothing to round.
  w = rng.standard_normal([768, 200]).astype(np.float32)
  w[:, 3] = 0
  p = quantize.quantize(Linear(tf.Variable(w)), 'int8')
  found = jit.compiled(lambda x: layers.linear(x, p))(tf.constant(x))
  weights = p.w.values.numpy() * p.w.scale.numpy()[:, None].astype(np.float64)
  exact = x @ weights.T
  error, size = (np.abs(y).max(1) for y in (found - exact, exact))
  assert (error < 1e-4 * size).all()


def test_what_no_one_compiles_is_multiplied_as_floats():
  p = quantize.quantize(Linear(tf.Variable(tf.ones([4, 4]))), 'int8')
  assert not int8_matmul.multiplies_int8(8, p.w)
