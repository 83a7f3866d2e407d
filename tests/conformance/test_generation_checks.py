"""Contradictory answers are found without the trained model."""

import pytest
from spoiled_exports import answering, failure, outcome, without

from minigpt.conformance import generation_checks


@pytest.mark.parametrize('name', generation_checks.CHECKS)
def test_a_sound_export_passes(checked, name):
  check = outcome(name, checked)
  assert check.status == 'pass', check


def test_the_tokenizer_of_the_export_is_enough_for_streaming(checked):
  alone = without(checked, 'reference')
  assert outcome('streaming', alone).status == 'pass'


def test_without_a_tokenizer_streaming_is_skipped(checked):
  for unknown in ('tokenizer', 'context_length'):
    assert outcome('streaming', without(checked, unknown)).status == 'skip'


@pytest.mark.parametrize(
  ('signature', 'a', 'b', 'name'),
  [
    ('score', 'log_prob', 'perplexity', 'scores'),
    ('prefill', 'keys', 'values', 'greedy by steps'),
    ('generate', 'num_tokens', 'num_dropped', 'text of tokens'),
  ],
)
def test_swapped_outputs_are_found(checked, signature, a, b, name):
  swapped = answering(checked, signature, lambda x: x | {a: x[b], b: x[a]})
  failure(name, without(swapped, 'reference'))


def test_next_tokens_in_another_order_are_found(checked):
  def reverse(answer):
    return answer | {'probabilities': answer['probabilities'][:, ::-1]}

  detail = failure('next tokens', answering(checked, 'next_token', reverse))
  assert detail.startswith('next_token: row 0 has probabilities')


def test_other_defaults_are_found(checked):
  def reverse(answer):
    return answer | {'text_bytes': answer['text_bytes'][::-1]}

  detail = failure('defaults', answering(checked, 'serving_default', reverse))
  assert detail == 'serving_default: row 0 begins unlike generate'
