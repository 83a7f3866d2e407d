"""Bad inputs are refused, and an export that accepts them fails."""

import numpy as np
import pytest
from spoiled_exports import failure, outcome, without

from minigpt.conformance import input_checks
from minigpt.serving.endpoint import EndpointError


@pytest.mark.parametrize('name', input_checks.CHECKS)
def test_a_sound_export_passes(checked, name):
  check = outcome(name, checked)
  assert check.status == 'pass', check


class Altered:
  """The sound export, with inputs or answers changed by `alter`."""

  def __init__(self, endpoint, alter):
    self.signatures = endpoint.signatures
    self.predict = lambda name, inputs: alter(endpoint, name, inputs)


def altered(checked, alter):
  return checked._replace(endpoint=Altered(checked.endpoint, alter))


def test_hard_prompts_need_no_tokenizer(checked):
  alone = without(checked, 'tokenizer', 'reference')
  check = outcome('hard prompts', alone)
  assert check.status == 'pass'
  # The vocabulary holds NUL and a line feed, but no Chinese.
  assert check.detail == (
    'Unicode refused, empty answered, NUL answered, invalid UTF-8 refused, '
    'very long answered'
  )


def test_a_bad_value_that_is_taken_is_found(checked):
  def clip(endpoint, name, inputs):
    if 'top_p' in inputs:
      inputs = inputs | {'top_p': np.clip(inputs['top_p'], 0.1, 1)}
    return endpoint.predict(name, inputs)

  detail = failure('bad values', altered(checked, clip))
  assert detail == 'generate accepts top_p=0.0'


def test_a_refusal_that_names_no_field_is_found(checked):
  def reword(endpoint, name, inputs):
    try:
      return endpoint.predict(name, inputs)
    except EndpointError as error:
      raise EndpointError(error.kind, 'bad request') from None

  detail = failure('bad values', altered(checked, reword))
  assert detail == 'generate: max_new_tokens=0: INVALID_ARGUMENT: bad request'


def test_text_that_is_cut_otherwise_is_found(checked):
  def drop(endpoint, name, inputs):
    answer = endpoint.predict(name, inputs)
    if name == 'score':
      answer['num_tokens'] = answer['num_tokens'] - 1
    return answer

  detail = failure('hard prompts', altered(checked, drop))
  assert detail == 'empty: read as 0 tokens, not 1'


def test_ids_behind_a_prompt_that_matter_are_found(checked):
  def sum_all(endpoint, name, inputs):
    answer = endpoint.predict(name, inputs)
    if name == 'prefill':
      answer['logits'] = answer['logits'] + np.sum(inputs['ids'])
    return answer

  detail = failure('padding of ids', altered(checked, sum_all))
  assert detail.startswith('prefill: row 0 with other padding: logits is off')
