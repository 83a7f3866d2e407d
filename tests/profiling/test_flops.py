"""Counts of operations, checked by hand."""

from minigpt.config import GPTConfig, TrainConfig
from minigpt.profiling import flops

GPT2 = GPTConfig()
CONFIG = GPTConfig(
  vocab_size=10, context_length=8, emb_dim=4, n_heads=2, n_layers=3
)


def test_the_operations_of_gpt2():
  """85 million weights in blocks, 39 in the head, and attention's pairs."""
  weights, head = 12 * 12 * 768**2, 768 * 50257
  pairs = 12 * 2 * 1024 * 768
  assert flops.train_flops_per_token(GPT2) == 6 * (weights + head + pairs)
  again = flops.train_flops_per_token(GPTConfig(remat=True))
  assert again == 8 * (weights + pairs) + 6 * head


def test_muon_multiplies_every_matrix_of_a_block():
  """Five iterations of x x', its square, and the two applied to x."""
  recipe = TrainConfig(batch_size=2, optimizer='muon')
  square = 2 * 3 * 4**3
  wide = 2 * (4 * 16 * 4 + 4**3 + 4 * 4 * 16)
  update = 5 * 3 * (4 * square + 2 * wide)
  assert flops.update_flops(CONFIG, recipe) == update
  assert flops.update_flops(CONFIG, TrainConfig()) == 0


def test_operations_are_those_of_the_matmuls():
  qkv_and_out, mlp = 4 * 12 + 4 * 4, 2 * 4 * 16
  scores_and_values = 2 * 5 * 4
  token = 3 * (qkv_and_out + mlp + scores_and_values)
  expected = 2 * (7 * token + 2 * 4 * 10)
  assert flops.forward_flops(CONFIG, 7, 5, 2) == expected


def test_what_scores_nothing_is_keys_and_values_in_the_last_block():
  qkv, rest = 4 * 12, 4 * 4 + 2 * 4 * 16 + 2 * 5 * 4
  n_tokens, n_rows = 2 * 5, 2
  expected = n_tokens * (3 * qkv + 2 * rest) + n_rows * (rest + 4 * 10)
  assert flops.prefill_flops(CONFIG, 2, 5) == 2 * expected
