"""An export in a process of its own: answers, errors and crashes."""

import sys

import numpy as np
import pytest
import tensorflow as tf

from minigpt.conformance.isolated_process import IsolatedProcess
from minigpt.conformance.subject import example_inputs
from minigpt.errors import InputError
from minigpt.serving.endpoint import EndpointError


@pytest.fixture(scope='module')
def python(tmp_path_factory):
  """A script in place of an interpreter that records its start."""
  path = tmp_path_factory.mktemp('bin') / 'python'
  started = path.with_name('started')
  path.write_text(f'#!/bin/sh\ntouch {started}\nexec {sys.executable} "$@"\n')
  path.chmod(0o755)
  return path


@pytest.fixture(scope='module')
def process(export_dir, python):
  process = IsolatedProcess(str(export_dir), python=str(python))
  yield process
  process.close()


def test_it_runs_under_the_interpreter_that_is_named(
  process, python, export_dir
):
  assert python.with_name('started').exists()
  assert process.tensorflow == tf.__version__
  with pytest.raises(InputError, match=r'nowhere cannot be started \(No such'):
    IsolatedProcess(export_dir, python=str(python.with_name('nowhere')))


def test_it_answers_as_a_session_does(process, checked):
  assert process.signatures() == checked.endpoint.signatures()
  inputs = example_inputs(checked, 'generate')
  expected = checked.endpoint.predict('generate', inputs)
  found = process.predict('generate', inputs)
  assert set(found) == set(expected)
  np.testing.assert_array_equal(found['text'], expected['text'])
  np.testing.assert_array_equal(found['tokens'], expected['tokens'])
  np.testing.assert_allclose(found['log_prob'], expected['log_prob'], 1e-4)


def test_a_refused_request_leaves_it_running(process):
  with pytest.raises(EndpointError, match=r'INVALID_ARGUMENT: .*text: invalid'):
    process.predict('score', {'text': [b'\xff']})
  assert process.predict('score', {'text': ['ab']})['num_tokens'] == [1]


def test_it_refuses_jit_functions_and_its_death_is_one_error(tmp_path):
  module = tf.Module()
  module.f = tf.function(
    lambda x: {'y': 2 * x},
    input_signature=[tf.TensorSpec([None], tf.float32, 'x')],
    jit_compile=True,
  )
  tf.saved_model.save(module, str(tmp_path), signatures=module.f)
  process = IsolatedProcess(tmp_path)
  try:
    with pytest.raises(EndpointError, match='disabled'):
      process.predict('serving_default', {'x': [1.0]})
    process._process.kill()
    with pytest.raises(EndpointError, match=r'CRASHED: .*SIGKILL'):
      process.predict('serving_default', {'x': [1.0]})
  finally:
    process.close()


def test_one_that_takes_too_long_is_ended(export_dir):
  with pytest.raises(EndpointError, match=r'DEADLINE_EXCEEDED: .*0\.01 s'):
    IsolatedProcess(export_dir, timeout=0.01)


def test_what_is_no_saved_model_starts_no_process(tmp_path):
  with pytest.raises(InputError, match='holds no SavedModel'):
    IsolatedProcess(tmp_path)
