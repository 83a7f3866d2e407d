"""New options do not change existing signatures."""

import pytest

from minigpt.errors import UsageError
from minigpt.generation.request import Request
from minigpt.generation.sampling_fields import SAMPLING_FIELDS
from minigpt.serving import sampling_inputs

# The inputs of clients of each version; a server accepts no others.
INPUTS = {
  1: {
    'max_new_tokens': 'int32',
    'temperature': 'float32',
    'top_k': 'int32',
    'top_p': 'float32',
    'seed': 'int64',
    'repetition_penalty': 'float32',
    'min_new_tokens': 'int32',
  },
  2: {'min_p': 'float32'},  # and those of earlier versions
}


def test_inputs_of_a_version_never_change():
  """A new option goes to a new version; see `SamplingField.since`."""
  assert list(sampling_inputs.versions()) == list(INPUTS)
  wanted = {}
  for version, more in INPUTS.items():
    wanted |= more
    fields = sampling_inputs.fields_of(version)
    assert {name: field.dtype for name, field in fields.items()} == wanted
  assert set(wanted) == set(SAMPLING_FIELDS)


def test_each_version_has_its_signature():
  names = [sampling_inputs.signature_name('generate_ids', v) for v in (1, 2)]
  assert names == ['generate_ids', 'generate_ids_v2']
  assert {sampling_inputs.base_name(n) for n in names} == {'generate_ids'}
  assert sampling_inputs.newest_version(['generate', 'score']) == 1
  assert sampling_inputs.newest_version(['generate', 'generate_v2']) == 2


def test_a_request_needs_the_oldest_version_that_has_its_options():
  assert sampling_inputs.needed_version(Request(top_k=3, stop=('.',))) == 1
  assert sampling_inputs.needed_version(Request(min_p=0.0)) == 1
  assert sampling_inputs.needed_version(Request(min_p=0.1)) == 2


def test_no_option_is_lost_on_an_old_signature():
  found = sampling_inputs.sampling_inputs(Request(min_p=0.5), 2, version=2)
  assert found['min_p'].tolist() == [0.5, 0.5]
  assert 'min_p' not in sampling_inputs.sampling_inputs(Request(), 2)
  with pytest.raises(UsageError, match=r'min_p=0\.5: .* generate_v2 does'):
    sampling_inputs.sampling_inputs(Request(min_p=0.5), 2)
