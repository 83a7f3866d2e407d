"""Wrong names, shapes, batches and warm-up requests are found."""

import shutil

import pytest
import tensorflow as tf
from spoiled_exports import beside, edit, failure, on, outcome, without

from minigpt.conformance import signature_checks
from minigpt.conformance.subject import ModelFiles
from minigpt.serving.endpoint import EndpointError
from minigpt.serving.signatures import Server


@pytest.mark.parametrize('name', signature_checks.CHECKS)
def test_a_sound_export_passes(checked, name):
  check = outcome(name, checked)
  assert check.status == 'pass', check


def test_without_any_files_what_needs_them_is_skipped(checked):
  alone = without(checked, 'export_dir')
  for name in ('no jit function', 'warm-up requests'):
    assert outcome(name, alone).status == 'skip'


def test_without_warmup_records_their_check_is_skipped(checked, copy):
  shutil.rmtree(copy / 'assets.extra')
  check = outcome('warm-up requests', on(checked, copy))
  assert check.status == 'skip'
  assert 'there is no assets.extra' in check.detail


def test_a_jit_function_is_found(checked, copy):
  def compile_one(graph):
    function = graph.graph_def.library.function[0]
    function.attr['_XlaMustCompile'].b = True

  edit(copy, compile_one)
  assert 'compiled with XLA' in failure('no jit function', on(checked, copy))


def test_a_warmup_record_that_fails_is_found(checked, copy):
  from minigpt.serving.grpc_endpoint import api

  path = copy / signature_checks.WARMUP
  (first, *_) = tf.data.TFRecordDataset(str(path)).as_numpy_iterator()
  log = api().PredictionLog.FromString(first)
  inputs = log.predict_log.request.inputs
  inputs['top_p'].CopyFrom(tf.make_tensor_proto([7.0]))
  with tf.io.TFRecordWriter(str(path)) as writer:
    writer.write(first)
    writer.write(log.SerializeToString())
  detail = failure('warm-up requests', beside(checked, copy))
  assert detail.startswith('record 1: INVALID_ARGUMENT')
  assert 'top_p=7' in detail


def test_a_damaged_warmup_file_is_found(checked, copy):
  path = copy / signature_checks.WARMUP
  path.write_bytes(path.read_bytes()[:-7])
  assert 'is damaged' in failure('warm-up requests', beside(checked, copy))


def test_a_lost_output_is_found(checked, copy):
  edit(copy, lambda g: g.signature_def['embed'].outputs.pop('embedding'))
  assert 'embed lacks embedding' in failure('signatures', on(checked, copy))


def test_a_lost_signature_is_found(checked, copy):
  edit(copy, lambda g: g.signature_def.pop('embed'))
  detail = failure('signatures', on(checked, copy))
  assert detail == 'there is no signature embed'


def test_a_row_that_depends_on_its_batch_is_found(checked, model, tmp_path):
  class Sabotaged(Server):
    def embed(self, text):
      answer = super().embed(text)
      mean = tf.reduce_mean(answer['embedding'], 0)
      return answer | {'embedding': answer['embedding'] - 0.01 * mean}

    def _inputs(self):
      return {'embed': super()._inputs()['embed']}

  server = Sabotaged(model.params, model.config, checked.files.tokenizer)
  tf.saved_model.save(server, str(tmp_path), signatures=server.signatures())
  detail = failure('batch invariance', on(checked, tmp_path))
  assert 'embed: row' in detail


def test_a_tensor_without_a_batch_dimension_is_found(checked, copy):
  def scalar(graph):
    shape = graph.signature_def['next_token'].inputs['k'].tensor_shape
    del shape.dim[:]

  edit(copy, scalar)
  assert 'next_token: k' in failure('batch dimension', on(checked, copy))


def test_nan_is_found(checked):
  class Broken:
    signatures = checked.endpoint.signatures

    def predict(self, name, inputs):
      answer = checked.endpoint.predict(name, inputs)
      if name == 'embed':
        answer['embedding'][1, 2] = float('nan')
      return answer

  broken = checked._replace(endpoint=Broken())
  detail = failure('every signature answers', broken)
  assert detail == 'embed: embedding holds NaN or infinity'


class Owned:
  """An export with a custom signature, whose inputs no check knows."""

  def __init__(self, endpoint):
    self._endpoint = endpoint

  def signatures(self):
    found = self._endpoint.signatures()
    style = found['embed']._replace(inputs={'style': tf.TensorSpec([3])})
    return {**found, 'translate': style}

  def predict(self, name, inputs):
    assert name != 'translate'
    return self._endpoint.predict(name, inputs)


@pytest.mark.parametrize(
  'name',
  ['signatures', 'batch dimension', 'every signature answers', 'hard prompts'],
)
def test_a_signature_of_other_inputs_is_left_out(checked, name):
  owned = checked._replace(endpoint=Owned(checked.endpoint))
  check = outcome(name, owned)
  assert check.status == 'pass', check
  if name == 'signatures':
    assert check.detail.endswith('; not checked: translate')


def test_a_server_that_refuses_many_rows_is_found(checked):
  class Small(Owned):
    def predict(self, name, inputs):
      if len(next(iter(inputs.values()))) > 2:
        raise EndpointError('INVALID_ARGUMENT', 'Task size 3 is larger than 2')
      return self._endpoint.predict(name, inputs)

  small = checked._replace(endpoint=Small(checked.endpoint))
  assert small.files.largest_batch == 2  # The unchanged export.
  assert 'Task size' in failure('large requests', small)
  unknown = checked._replace(files=ModelFiles())
  assert '9 rows' in outcome('large requests', unknown).detail
