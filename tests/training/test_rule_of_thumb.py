"""The proposed model, checked against the rule by hand."""

import pytest

from minigpt.training import rule_of_thumb


def test_a_small_text_is_passed_over_four_times():
  found = rule_of_thumb.propose(1_000_000)
  assert found.n_tokens == pytest.approx(4_000_000, rel=0.02)
  # A twentieth of the tokens seen, up to whole layers.
  assert found.n_parameters == pytest.approx(200_000, rel=0.15)
  assert (found.n_layers, found.emb_dim) == (2, 96)
  assert (found.context_length, found.batch_size) == (64, 31)


def test_little_time_asks_for_a_small_model_and_little_text():
  """1e15 operations: N = sqrt(1e15 / 120) = 2.9e6, D = 20 N = 5.8e7."""
  found = rule_of_thumb.propose(10**9, 1e15)
  assert found.n_parameters == pytest.approx(2.9e6, rel=0.15)
  assert found.n_tokens == pytest.approx(5.8e7, rel=0.02)
  assert 6 * found.n_parameters * found.n_tokens == pytest.approx(1e15, rel=0.2)
  more = rule_of_thumb.propose(10**9, 1e17)
  assert more.n_parameters == pytest.approx(10 * found.n_parameters, rel=0.2)


@pytest.mark.parametrize('n_tokens', [2, 100, 10**4, 10**7, 10**10, 10**12])
def test_what_is_proposed_can_be_run(n_tokens):
  found = rule_of_thumb.propose(n_tokens)
  assert min(found) >= 1
  assert found.emb_dim % found.n_heads == 0
  assert 512 <= found.vocab_size <= 32768
  assert found.batch_size * found.context_length <= 2**19 + 1024


def test_it_is_said_in_flags():
  said = rule_of_thumb.describe(1_000_000, 0, 100)
  assert '4.0 passes' in said and '--n_layers=2 --emb_dim=96' in said
  short = rule_of_thumb.describe(1_000_000, 0.001, 100)
  assert '0.0 min at 100 GFLOP/s' in short
