import pytest

from minigpt.config import GPTConfig, TrainConfig
from minigpt.errors import UsageError
from minigpt.kernels.fused_linear_cross_entropy import LOGITS_BYTES, MOST_CHUNKS
from minigpt.training import memory_estimate

GPT2 = GPTConfig()


def test_the_state_of_gpt2_is_16_bytes_a_parameter():
  assert memory_estimate.estimate(GPT2, TrainConfig()).state == 16 * 124_412_160


def test_activations_grow_with_the_batch_and_copies_with_its_parts():
  one = memory_estimate.estimate(GPT2, TrainConfig(batch_size=1))
  four = memory_estimate.estimate(GPT2, TrainConfig(batch_size=4, grad_accum=2))
  # A large batch computes its logits in only a few chunks.
  few, many = (2 * LOGITS_BYTES, 2 * 4 * 1024 * 50257 * 4 // MOST_CHUNKS)
  assert four.activations - many == 4 * (one.activations - few)
  assert (one.copies, four.copies) == (0, 4 * 124_412_160)
  half = memory_estimate.estimate(
    GPT2, TrainConfig(batch_size=1, compute_dtype='bfloat16')
  )
  assert one.activations / 2 < half.activations < one.activations


def test_recomputed_blocks_keep_their_input_and_one_block():
  plain, again = (
    memory_estimate.estimate(GPTConfig(remat=remat), TrainConfig(batch_size=2))
    for remat in (False, True)
  )
  assert again.state == plain.state
  # Logits, and the weights of attention of one block, with their gradients.
  passing = 2 * LOGITS_BYTES + 2048 * 4 * 2 * 12 * 1024
  block = (plain.activations - passing) // 12
  kept = 2048 * 4 * 12 * 768
  assert again.activations == passing + 2 * block + kept


def test_a_small_vocabulary_has_few_logits():
  few, many = (
    memory_estimate.estimate(GPTConfig(vocab_size=n), TrainConfig(batch_size=1))
    for n in (1, 65)
  )
  assert many.activations - few.activations == 2 * 4 * 1024 * 64


def test_a_state_that_cannot_fit_is_refused():
  with pytest.raises(UsageError, match=r'take 1\.9 GiB, this machine has 1\.0'):
    memory_estimate.check(GPT2, TrainConfig(), 1 << 30)


def test_a_tight_fit_names_the_flags():
  recipe = TrainConfig(batch_size=64)
  line = memory_estimate.check(GPT2, recipe, 4 << 30)
  assert '--batch_size=64' in line and line.endswith('or give --remat')
  assert '--remat' not in memory_estimate.check(
    GPTConfig(remat=True), recipe, 4 << 30
  )
  assert '--batch_size' not in memory_estimate.check(GPT2, recipe, 1 << 40)


def test_the_limit_of_a_container_counts(tmp_path):
  (tmp_path / 'max').write_text('max\n')
  (tmp_path / 'some').write_text('4096\n')
  whole = memory_estimate.available(limits=())
  assert (
    memory_estimate.available((str(tmp_path / 'max'), '/nowhere'))
    == whole
    > 4096
  )
  assert memory_estimate.available((str(tmp_path / 'some'),)) == 4096
