import pytest

from minigpt.config import GPTConfig, TrainConfig
from minigpt.profiling import flops

GPT2 = GPTConfig()


def test_the_operations_of_gpt2():
  """85 million weights in blocks, 39 in the head, and attention's pairs."""
  weights, head = 12 * 12 * 768**2, 768 * 50257
  pairs = 12 * 2 * 1024 * 768
  assert flops.flops_per_token(GPT2) == 6 * (weights + head + pairs)
  again = flops.flops_per_token(GPTConfig(remat=True))
  assert again == 8 * (weights + pairs) + 6 * head


def test_a_ring_sends_twice_the_gradient_less_a_share():
  assert flops.reduced_bytes(GPT2, 1) == 0
  assert flops.reduced_bytes(GPT2, 4) == 1.5 * 4 * 124_412_160


def test_workers_share_the_batch_and_wait_for_the_network():
  recipe = TrainConfig(batch_size=8, grad_accum=2)
  machine = flops.Machine(gflops=1000.0, gbps=8.0)
  one, four = (flops.step(GPT2, recipe, n, machine) for n in (1, 4))
  assert one.n_tokens == four.n_tokens == 16 * 1024
  assert one.efficiency == 1
  assert four.compute_s == pytest.approx(one.compute_s / 4)
  assert four.communication_s == pytest.approx(6 * 124_412_160 / 1e9)
  assert four.seconds == four.compute_s + four.communication_s


def test_muon_multiplies_every_matrix_of_a_block_in_each_worker():
  """Five turns of x x', its square, and the two applied to x."""
  config = GPTConfig(
    vocab_size=10, context_length=8, emb_dim=4, n_heads=2, n_layers=3
  )
  recipe = TrainConfig(batch_size=2, optimizer='muon')
  square = 2 * 3 * 4**3
  wide = 2 * (4 * 16 * 4 + 4**3 + 4 * 4 * 16)
  update = 5 * 3 * (4 * square + 2 * wide)
  assert flops.update_flops(config, recipe) == update
  assert flops.update_flops(config, TrainConfig()) == 0
  machine = flops.Machine(gflops=1.0, gbps=8.0)
  one, two = (flops.step(config, recipe, n, machine).flops for n in (1, 2))
  assert one - update == 2 * (two - update) > 0


def test_operations_are_those_of_the_products():
  config = GPTConfig(
    vocab_size=10, context_length=8, emb_dim=4, n_heads=2, n_layers=3
  )
  qkv_and_out, mlp = 4 * 12 + 4 * 4, 2 * 4 * 16
  scores_and_values = 2 * 5 * 4
  token = 3 * (qkv_and_out + mlp + scores_and_values)
  expected = 2 * (7 * token + 2 * 4 * 10)
  assert flops.forward_flops(config, 7, 5, 2) == expected


def test_what_scores_nothing_is_keys_and_values_in_the_last_block():
  config = GPTConfig(
    vocab_size=10, context_length=8, emb_dim=4, n_heads=2, n_layers=3
  )
  qkv, rest = 4 * 12, 4 * 4 + 2 * 4 * 16 + 2 * 5 * 4
  n_tokens, n_rows = 2 * 5, 2
  expected = n_tokens * (3 * qkv + 2 * rest) + n_rows * (rest + 4 * 10)
  assert flops.score_flops(config, 2, 5) == 2 * expected
