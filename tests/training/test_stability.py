"""Spikes and values that are not finite: detected, explained, skipped."""

import dataclasses

import numpy as np
import pytest
import tensorflow as tf
from helpers import open_tiny_run

from minigpt.config import GPTConfig, TrainConfig
from minigpt.data.sequence_packing import PackedBatch
from minigpt.errors import InputError
from minigpt.model import lora
from minigpt.model.loss import loss_fn
from minigpt.model.transformer import GPT
from minigpt.training import stability
from minigpt.training.metrics import read_metrics
from minigpt.training.stability import first_nonfinite, trace
from minigpt.training.state import TrainState
from minigpt.training.trainer import Finished, Trainer

CONFIG = GPTConfig(
  vocab_size=11,
  context_length=4,
  emb_dim=8,
  n_heads=2,
  n_layers=2,
  drop_rate=0.2,
)
WINDOWS = tf.constant([[1, 2, 3, 4, 5], [6, 7, 8, 9, 10]])


@pytest.fixture
def state():
  return TrainState(GPT(CONFIG, seed=1))


def test_the_trace_ends_in_the_loss(state):
  rng = tf.constant([3, 4])
  loss = trace(WINDOWS, state.params, CONFIG, rng)['loss']
  expected = loss_fn(WINDOWS, state.params, CONFIG, rng)
  assert float(loss) == float(expected)


def why(state, config=CONFIG) -> str:
  return first_nonfinite(WINDOWS[None], state, config, TrainConfig())


def test_a_broken_state_is_named(state):
  w = state.params.blocks[1].mlp.c_fc.w
  w[2, 3].assign(np.nan)
  assert (
    why(state) == 'params.blocks.1.mlp.c_fc.w was not finite before the step'
  )
  w[2, 3].assign(0)
  state.moments.nu.wpe[0, 0].assign(np.inf)
  assert why(state).startswith('moments.nu.wpe was not finite')


def test_the_first_tensor_that_overflows_is_named(state):
  state.params.blocks[1].mlp.c_fc.w.assign(tf.fill([8, 32], 1e10))
  state.params.blocks[1].mlp.c_fc.b.assign(tf.fill([32], 1e10))
  state.params.blocks[1].mlp.c_proj.w.assign(tf.fill([32, 8], 3e38))
  assert why(state).startswith('blocks.1.residual was the first to break')


def test_an_overflow_of_the_gradient_alone_is_named(state):
  # Rows without variance are 0 after the norm, even with a large gain.
  zeros = tf.nest.map_structure(tf.zeros_like, state.params.blocks)
  tf.nest.map_structure(lambda p, z: p.assign(z), state.params.blocks, zeros)
  state.params.wpe.assign(tf.zeros([4, 8]))
  state.params.wte.assign(tf.repeat(tf.range(11.0)[:, None], 8, axis=1))
  state.params.ln_f.g.assign(tf.fill([8], 3e38))
  found = why(state, dataclasses.replace(CONFIG, drop_rate=0.0))
  assert found.startswith('the gradient of blocks.1.residual was'), found


def test_adapters_and_packed_rows_are_looked_into():
  model = GPT(CONFIG, seed=1)
  state = TrainState(model, lora.init_adapters(CONFIG, 2), 1.0)
  packed = PackedBatch(
    np.array([[[1, 2, 3, 4, 5]]], np.int32),
    np.array([[[0, 1, 0, 1]]], np.float32),
    np.array([[[1, 1, 2, 2]]], np.int32),
  )

  def found():
    return first_nonfinite(packed, state, CONFIG, TrainConfig())

  assert 'the step is finite' in found()
  state.params[1].attn.c_proj.b.assign(tf.fill([2, 8], 3e38))
  state.params[1].attn.c_proj.a.assign(tf.fill([8, 2], 3e38))
  assert found().startswith('blocks.1.mlp.hidden was the first to break')
  state.params[0].mlp.c_fc.a[0, 0].assign(np.nan)
  assert found().startswith('params.0.mlp.c_fc.a was not finite before')
  model.params.ln_f.g[0].assign(np.inf)
  assert found().startswith('frozen.ln_f.g was not finite before')


def test_scores_are_broken_by_nan_but_not_by_masks(state):
  state.params.blocks[0].attn.c_attn.w.assign(tf.fill([8, 24], 3e30))
  assert why(state).startswith('blocks.0.attn.scores was the first to break')


def test_finite_numbers_are_cleared(state):
  assert 'the step is finite' in why(state)


def test_spikes_are_measured_in_deviations_of_the_last_losses():
  losses = [1.0, 3.0] * 25  # mean 2, deviation 1

  def spikes(loss, width=4.0, losses=losses):
    record = {'train_loss': loss, 'grad_norm': 1.0}
    return stability.is_spike(record, losses, width)

  assert spikes(6.01)
  assert not spikes(5.99)
  assert spikes(np.nan)
  assert not spikes(100.0, width=0)
  assert not spikes(100.0, losses=losses[1:])
  assert not spikes(6.01, losses=[100.0, 200.0, *losses][:50])


def test_a_damaged_list_of_skipped_batches_is_refused(tmp_path):
  path = tmp_path / 'skipped.json'
  assert stability.read_skipped(path) == []
  stability.skip(path, {'step': 3, 'train_loss': 9.0}, 7)
  assert stability.read_skipped(path) == [{'step': 3, 'batch': 7, 'loss': 9.0}]
  for content in (
    '[{"batch": null}]',
    '[{"batch": 1e999}]',
    '[{"batch": 1.5}]',
    '[7]',
    '7',
    '{}',
    '[' * 100_000,
  ):
    path.write_text(content)
    with pytest.raises(InputError, match='is not a list of skipped batches'):
      stability.read_skipped(path)


def poisoned(run: Trainer, bad: list[int], value: float) -> list[int]:
  """Makes the run report `value` as the loss of some batches."""
  steps_of, seen = run.train_steps, []

  def train_steps(windows, n):
    first = run.step
    metrics = steps_of(windows, n)
    loss = metrics.loss.numpy()
    for i in range(int(n)):
      seen.append(run.batch_number(first + i))
      if seen[-1] in bad:
        loss[i] = value
    return metrics._replace(loss=tf.constant(loss))

  run.train_steps = train_steps
  return seen


def test_the_guard_goes_back_and_on_without_the_batch(tmp_path):
  changes = dict(steps=70, spike_guard=30.0)
  with open_tiny_run(tmp_path / 'run', **changes) as run:
    seen = poisoned(run, [62, 66], 50.0)
    assert run.train() == Finished()
  assert run.skipped == [62, 66]
  assert seen.count(61) == 3  # Once, and after going back to step 60 twice.
  assert max(seen) == 71
  metrics = read_metrics(run.path / 'metrics.jsonl')
  assert [m['step'] for m in metrics] == list(range(1, 71))
  assert max(m['train_loss'] for m in metrics) < 5
  with open_tiny_run(run.path, **changes) as again:
    assert again.skipped == [62, 66]


def test_broken_numbers_stop_the_run_with_their_cause(tmp_path):
  with (
    pytest.raises(InputError) as caught,
    open_tiny_run(tmp_path / 'run', steps=20) as run,
  ):
    poisoned(run, [15], np.nan)
    run.train()
  message = str(caught.value)
  assert message.startswith('step 16: loss nan')
  assert 'the step is finite' in message
  assert 'nothing after step 10 was saved' in message
  assert '\n' not in message
  assert run.step == 15
  metrics = read_metrics(run.path / 'metrics.jsonl')
  assert all(np.isfinite(m['train_loss']) for m in metrics)
