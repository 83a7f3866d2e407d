"""Workloads: their results and their stated costs."""

import numpy as np
import pytest

from minigpt.config import TrainConfig
from minigpt.generation import decode
from minigpt.kernels.quantize import quantize
from minigpt.model.params import count
from minigpt.profiling import flops, workloads


@pytest.mark.parametrize(
  'weights, compute_dtype, n_bytes',
  [
    ('float32', 'float32', 4),
    ('float32', 'bfloat16', 2),
    ('bfloat16', 'float32', 2),
    ('int8', 'float32', 1),
    ('w8a8', 'float32', 1),
  ],
)
def test_weights_are_read_in_the_form_they_are_kept(
  config, model, weights, compute_dtype, n_bytes
):
  p = quantize(model.params, weights, compute_dtype)
  found = workloads.weight_bytes(p, config)
  assert found == n_bytes * count(model.params)


def test_decoding_counts_tokens_of_all_rows(config, model):
  work = workloads.decode(model.params, config, 3, 4, 6, mode='graph')
  assert (work.unit, work.n_units, work.n_tokens) == ('token', 6, 18)
  # A token reads 4 + 3 keys and values of width 16, 4 bytes, in two layers.
  cache = 3 * 2 * 2 * 7 * 16 * 4
  assert work.bytes == 6 * (4 * count(model.params) + cache)
  assert work.flops == 6 * flops.forward_flops(config, 3, 7, 3)
  expected = decode.greedy(work.arguments['tokens'], 6, 6, model.params, config)
  np.testing.assert_array_equal(work(), expected)


def test_prefill_scores_the_end_of_each_row(config, model):
  work = workloads.prefill(model.params, config, 3, 4, mode='graph')
  assert (work.n_units, work.n_tokens) == (1, 12)
  assert work.bytes == 4 * count(model.params)
  assert work.flops == flops.prefill_flops(config, 3, 4)
  expected = decode.next_logits(work.arguments['tokens'], model.params, config)
  np.testing.assert_allclose(work(), expected, rtol=1e-5, atol=1e-5)


def test_training_takes_the_steps_of_a_call(config, model):
  recipe = TrainConfig(
    steps=4, batch_size=2, grad_accum=3, steps_per_call=2, compile='graph'
  )
  work = workloads.train(config, recipe)
  assert (work.n_units, work.n_tokens) == (2, 2 * 3 * 2 * 12)
  # Weight, gradient and two moments are read; three of them are written.
  assert work.bytes == 2 * 28 * count(model.params)
  assert np.isfinite(work().loss).all()
  steps = next(v for k, v in work.variables.items() if k.endswith('step'))
  assert steps.numpy() == 2
  work(**work.before)
  assert steps.numpy() == 2
