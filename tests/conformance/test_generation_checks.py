"""Answers that contradict each other are found without the trained model."""

import pytest
from spoiled_exports import edit, failure, on, outcome, swap, without

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
  ('change', 'name'),
  [
    (swap('score', 'log_prob', 'perplexity'), 'scores'),
    (swap('prefill', 'keys', 'values'), 'greedy by steps'),
    (swap('generate', 'num_tokens', 'num_dropped'), 'text of tokens'),
  ],
)
def test_swapped_outputs_are_found(checked, copy, change, name):
  edit(copy, change)
  failure(name, without(on(checked, copy), 'reference'))


def test_next_tokens_in_another_order_are_found(checked):
  class Reversed:
    signatures = checked.endpoint.signatures

    def predict(self, name, inputs):
      answer = checked.endpoint.predict(name, inputs)
      if name == 'next_token':
        answer['probabilities'] = answer['probabilities'][:, ::-1]
      return answer

  detail = failure('next tokens', checked._replace(endpoint=Reversed()))
  assert detail.startswith('next_token: row 0 has probabilities')


def test_other_defaults_are_found(checked):
  class Other:
    signatures = checked.endpoint.signatures

    def predict(self, name, inputs):
      answer = checked.endpoint.predict(name, inputs)
      if name == 'serving_default':
        answer['text_bytes'] = answer['text_bytes'][::-1]
      return answer

  detail = failure('defaults', checked._replace(endpoint=Other()))
  assert detail == 'serving_default: row 0 begins unlike generate'
