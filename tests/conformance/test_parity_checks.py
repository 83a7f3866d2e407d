"""An export that is not the trained model is found."""

import numpy as np
import pytest
import tensorflow as tf
from spoiled_exports import failure, on, outcome, without

from minigpt.conformance import parity_checks


@pytest.mark.parametrize('name', parity_checks.CHECKS)
def test_a_sound_export_passes(checked, name):
  check = outcome(name, checked)
  assert check.status == 'pass', check


@pytest.mark.parametrize('name', parity_checks.CHECKS)
def test_without_the_run_nothing_can_be_compared(checked, name):
  check = outcome(name, without(checked, 'reference'))
  assert (check.status, check.detail) == ('skip', 'needs --workdir')


def test_a_wrong_weight_is_found(checked, copy):
  """One number of one tensor; its checksum is right."""
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
