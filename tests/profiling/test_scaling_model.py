"""The predicted cost of a step of several workers, checked by hand."""

import pytest

from minigpt.config import GPTConfig, TrainConfig
from minigpt.profiling import flops
from minigpt.profiling.scaling_model import (
  Machine,
  all_reduce_bytes,
  step_cost,
)

GPT2 = GPTConfig()


def test_a_ring_sends_twice_the_gradient_less_a_share():
  assert all_reduce_bytes(GPT2, 1) == 0
  assert all_reduce_bytes(GPT2, 4) == 1.5 * 4 * 124_412_160


def test_workers_share_the_batch_and_wait_for_the_network():
  recipe = TrainConfig(batch_size=8, grad_accum=2)
  machine = Machine(gflops=1000.0, gbps=8.0)
  one, four = (step_cost(GPT2, recipe, n, machine) for n in (1, 4))
  assert one.n_tokens == four.n_tokens == 16 * 1024
  assert one.efficiency == 1
  assert four.compute_s == pytest.approx(one.compute_s / 4)
  assert four.communication_s == pytest.approx(6 * 124_412_160 / 1e9)
  assert four.seconds == four.compute_s + four.communication_s


def test_every_worker_makes_the_whole_update():
  config = GPTConfig(
    vocab_size=10, context_length=8, emb_dim=4, n_heads=2, n_layers=3
  )
  recipe = TrainConfig(batch_size=2, optimizer='muon')
  update = flops.update_flops(config, recipe)
  machine = Machine(gflops=1.0, gbps=8.0)
  one, two = (step_cost(config, recipe, n, machine).flops for n in (1, 2))
  assert one - update == 2 * (two - update) > 0
