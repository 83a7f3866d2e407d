"""An export that differs from the trained model fails."""

import numpy as np
import pytest
import tensorflow as tf
from spoiled_exports import failure, on, outcome, without

from minigpt.conformance import parity_checks
from minigpt.serving.sampling_inputs import base_name
from minigpt.serving.signatures import Server


@pytest.mark.parametrize('name', parity_checks.CHECKS)
def test_a_sound_export_passes(checked, name):
  check = outcome(name, checked)
  assert check.status == 'pass', check


@pytest.mark.parametrize('name', parity_checks.CHECKS)
def test_without_the_run_nothing_can_be_compared(checked, name):
  check = outcome(name, without(checked, 'reference'))
  assert (check.status, check.detail) == ('skip', 'needs --workdir')


class Stopping:
  """An export of the same model with stop strings."""

  def __init__(self, checked, stop):
    ref = checked.reference
    self.signatures = checked.endpoint.signatures
    self._server = Server(ref.weights, ref.config, ref.tokenizer, 9, stop)
    self.ended = []

  def predict(self, name, inputs):
    inputs = {key: tf.constant(value) for key, value in inputs.items()}
    answer = getattr(self._server, base_name(name))(**inputs)
    self.ended += [*(answer['num_tokens'] < inputs['max_new_tokens'])]
    return {key: value.numpy() for key, value in answer.items()}


def test_rows_that_end_at_a_stop_are_compared_up_to_it(checked):
  endpoint = Stopping(checked, ('a', 'b', 'c', '\0', '\n'))
  for name in ('greedy tokens, live', 'sampled tokens, live'):
    check = outcome(name, checked._replace(endpoint=endpoint))
    assert check.status == 'pass', check
  assert any(endpoint.ended) and not all(endpoint.ended)


def test_a_wrong_weight_is_found(checked, copy):
  """Changes one number of one tensor, and its checksum accordingly."""
  prefix = copy / 'variables' / 'variables'
  reader = tf.train.load_checkpoint(str(prefix))
  names = sorted(reader.get_variable_to_shape_map())
  tensors = [np.array(reader.get_tensor(name)) for name in names]
  (spoilt,) = (t for t in tensors if t.shape == (17, 16))
  spoilt[3, 5] += 0.01
  tf.raw_ops.SaveV2(
    prefix=str(prefix),
    tensor_names=names,
    shape_and_slices=[''] * len(names),
    tensors=tensors,
  )
  assert 'logits is off by' in failure('logits, live', on(checked, copy))
