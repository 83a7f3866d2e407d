"""Valid and invalid requests, and their values for each sequence."""

import pytest

from minigpt.errors import UsageError
from minigpt.generation.request import Request
from minigpt.generation.sampling_fields import SAMPLING_FIELDS


@pytest.mark.parametrize(
  'bad',
  [
    {'max_new_tokens': 0},
    {'temperature': -1.0},
    {'temperature': float('nan')},
    {'top_k': -1},
    {'top_k': 2**31},
    {'top_k': 2.5},
    {'max_new_tokens': 2**31},
    {'temperature': 1e39},
    {'seed': 2**63},
    {'seed': -(2**63) - 1},
    {'seed': float('nan')},
    {'logit_bias': {3: float('nan')}},
    {'logit_bias': {3: float('inf')}},
    {'length_penalty': float('nan')},
    {'length_penalty': float('-inf')},
    {'length_penalty': 5.1},
    {'top_p': 0.0},
    {'top_p': 1.5},
    {'stop': ['']},
    {'stop': ['\udcff']},
    {'banned': ['\udcff']},
    {'speculate': -1, 'temperature': 0.0},
    {'speculate': 65, 'temperature': 0.0},
    {'speculate': 4},
    {'speculate': 4, 'temperature': 0.0, 'num_beams': 2},
    {'speculate': 4, 'temperature': 0.0, 'repetition_penalty': 1.1},
  ],
)
def test_requests_out_of_range_are_refused(bad):
  with pytest.raises(UsageError, match=next(iter(bad))):
    Request(**bad).check()


def test_the_ends_of_each_type_are_accepted():
  ends = Request(
    max_new_tokens=2**31 - 1, top_k=2**31 - 1, seed=-(2**63), temperature=3e38
  )
  options = ends.check().options(2)
  assert options['top_k'].tolist() == [2**31 - 1] * 2
  assert options['seed'].tolist() == [-(2**63), -(2**63) + 1]
  Request(seed=2**63 - 1, logit_bias={3: -float('inf')}).check()


def test_what_is_changed_is_what_differs_from_the_defaults():
  assert dict(Request().changed()) == {}
  request = Request(top_k=3, stop=('.',), temperature=0.8)
  assert dict(request.changed()) == {'top_k': 3, 'stop': ('.',)}


def test_only_rules_change_logits():
  assert not Request(top_k=3, temperature=0.0, stop=('.',)).changes_logits
  for rule in ({'min_new_tokens': 1}, {'logit_bias': {3: 1.0}}):
    assert Request(**rule).changes_logits


def test_options_have_one_value_for_each_sequence():
  options = Request(top_p=0.5, seed=7).options(3)
  assert list(options) == list(SAMPLING_FIELDS)
  for name, field in SAMPLING_FIELDS.items():
    assert options[name].dtype == field.dtype
  assert options['top_p'].tolist() == [0.5] * 3
  assert options['seed'].tolist() == [7, 8, 9]


def test_a_lone_string_is_one_stop():
  request = Request(stop='ab', banned='cd').check()
  assert request == Request(stop=['ab'], banned=['cd'])
