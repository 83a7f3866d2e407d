"""The gate, on exports that are sound and on exports that are not."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from tensorflow.core.protobuf import saved_model_pb2

from minigpt.conformance import generation_checks, signature_checks
from minigpt.conformance import subject as gate
from minigpt.conformance.serving_session import StockProcess, StockSession
from minigpt.errors import InputError, UsageError
from minigpt.serving.endpoint import EndpointError
from minigpt.serving.signatures import Server

ALL = signature_checks.CHECKS | generation_checks.CHECKS


@pytest.fixture(scope='module')
def subject(session, export_dir, run_dir):
  return signature_checks.prepare(
    session,
    **gate._known(export_dir, run_dir),
    export_dir=export_dir,
  )


def outcome(name, subject):
  (check,) = signature_checks.run({name: ALL[name]}, subject)
  return check


def failure(name, subject):
  check = outcome(name, subject)
  assert check.status == 'fail', check
  return check.detail


@pytest.fixture
def copy(export_dir, tmp_path):
  """The export, for a test to spoil."""
  return Path(shutil.copytree(export_dir, tmp_path / '1'))


def edit(path, change):
  """Changes the SavedModel's graph in place."""
  file = path / 'saved_model.pb'
  saved = saved_model_pb2.SavedModel.FromString(file.read_bytes())
  change(saved.meta_graphs[0])
  file.write_bytes(saved.SerializeToString())


def on(subject, export_dir):
  return subject._replace(
    endpoint=StockSession(export_dir), export_dir=export_dir
  )


# A sound export.


@pytest.mark.parametrize('name', ALL)
def test_a_sound_export_passes(subject, name):
  check = outcome(name, subject)
  assert check.status == 'pass', check


def test_without_the_run_the_tokenizer_of_the_export_serves(
  subject, export_dir
):
  known = gate._known(export_dir, None)
  assert known['tokenizer'].vocab_size == 17
  assert known['context_length'] == 12
  assert 'live' not in known
  alone = subject._replace(**known, live=None)
  assert outcome('streaming', alone).status == 'pass'


def test_without_any_files_what_needs_them_is_skipped(subject):
  alone = subject._replace(
    export_dir=None, tokenizer=None, context_length=None, live=None
  )
  for name in ('no jit function', 'warm-up requests', 'streaming'):
    assert outcome(name, alone).status == 'skip'
  assert outcome('hard prompts', alone).status == 'pass'


def test_latency_is_found_for_every_signature(subject):
  latencies = gate._latencies(subject)
  assert set(latencies) == set(signature_checks.TABLE)
  assert all(seconds > 0 for seconds in latencies.values())


# Sabotage.


def test_a_wrong_weight_is_found(subject, copy):
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
  assert 'logits is off by' in failure('logits, live', on(subject, copy))


def test_a_jit_function_is_found(subject, copy):
  def compile_one(graph):
    function = graph.graph_def.library.function[0]
    function.attr['_XlaMustCompile'].b = True

  edit(copy, compile_one)
  spoilt = subject._replace(export_dir=copy)
  assert 'compiled with XLA' in failure('no jit function', spoilt)


def test_the_process_refuses_jit_functions_as_the_stock_server_does(tmp_path):
  module = tf.Module()
  module.f = tf.function(
    lambda x: {'y': 2 * x},
    input_signature=[tf.TensorSpec([None], tf.float32, 'x')],
    jit_compile=True,
  )
  tf.saved_model.save(module, str(tmp_path), signatures=module.f)
  process = StockProcess(tmp_path)
  try:
    with pytest.raises(EndpointError, match='disabled'):
      process.predict('serving_default', {'x': [1.0]})
  finally:
    process.close()


def test_a_warmup_record_that_fails_is_found(subject, copy):
  from minigpt.serving.grpc_endpoint import api

  path = copy / signature_checks.WARMUP
  (first, *_) = tf.data.TFRecordDataset(str(path)).as_numpy_iterator()
  log = api().PredictionLog.FromString(first)
  inputs = log.predict_log.request.inputs
  inputs['top_p'].CopyFrom(tf.make_tensor_proto([7.0]))
  with tf.io.TFRecordWriter(str(path)) as writer:
    writer.write(first)
    writer.write(log.SerializeToString())
  spoilt = subject._replace(export_dir=copy)
  detail = failure('warm-up requests', spoilt)
  assert detail.startswith('record 1: INVALID_ARGUMENT')
  assert 'top_p=7' in detail


def test_a_damaged_warmup_file_is_found(subject, copy):
  path = copy / signature_checks.WARMUP
  path.write_bytes(path.read_bytes()[:-7])
  spoilt = subject._replace(export_dir=copy)
  assert 'is damaged' in failure('warm-up requests', spoilt)


def swap(signature, a, b):
  def change(graph):
    outputs = graph.signature_def[signature].outputs
    outputs[a].name, outputs[b].name = outputs[b].name, outputs[a].name

  return change


@pytest.mark.parametrize(
  ('change', 'name'),
  [
    (swap('score', 'log_prob', 'perplexity'), 'scores'),
    (swap('prefill', 'keys', 'values'), 'greedy by steps'),
    (swap('generate', 'num_tokens', 'num_dropped'), 'text of tokens'),
  ],
)
def test_swapped_outputs_are_found_without_the_run(subject, copy, change, name):
  edit(copy, change)
  failure(name, on(subject, copy)._replace(live=None))


def test_a_lost_output_is_found(subject, copy):
  edit(copy, lambda g: g.signature_def['embed'].outputs.pop('embedding'))
  assert 'embed lacks embedding' in failure('signatures', on(subject, copy))


def test_a_row_that_depends_on_its_batch_is_found(subject, model, tmp_path):
  class Sabotaged(Server):
    def embed(self, text):
      answer = super().embed(text)
      mean = tf.reduce_mean(answer['embedding'], 0)
      return answer | {'embedding': answer['embedding'] - 0.01 * mean}

    def _inputs(self):
      return {'embed': super()._inputs()['embed']}

  server = Sabotaged(model.params, model.config, subject.tokenizer)
  tf.saved_model.save(server, str(tmp_path), signatures=server.signatures())
  detail = failure('batch invariance', on(subject, tmp_path))
  assert 'embed: row' in detail


def test_a_tensor_without_a_batch_dimension_is_found(subject, copy):
  def scalar(graph):
    shape = graph.signature_def['next_token'].inputs['k'].tensor_shape
    del shape.dim[:]

  edit(copy, scalar)
  assert 'next_token: k' in failure('batch dimension', on(subject, copy))


# Bad input.


def test_a_process_that_dies_is_one_error(export_dir):
  process = StockProcess(export_dir)
  try:
    process._process.kill()
    with pytest.raises(EndpointError, match=r'CRASHED: .*SIGKILL'):
      process.predict('score', {'text': ['a']})
  finally:
    process.close()


def test_an_export_without_weights_does_not_load(copy):
  shutil.rmtree(copy / 'variables')
  report = gate.examine(lambda: StockSession(copy), copy)
  assert not report.passed
  assert [c.status for c in report.checks] == ['fail']


def test_wrong_inputs_are_named(subject):
  with pytest.raises(UsageError, match='takes text; given were prompt'):
    subject.endpoint.predict('score', {'prompt': ['a']})
  with pytest.raises(UsageError, match=r'score\.text must be string'):
    subject.endpoint.predict('score', {'text': [1]})
  with pytest.raises(EndpointError, match='NOT_FOUND: no signature'):
    subject.endpoint.predict('scores', {'text': ['a']})


def test_what_is_no_saved_model_is_named(tmp_path):
  with pytest.raises(InputError, match='holds no SavedModel'):
    StockProcess(tmp_path)
  (tmp_path / 'saved_model.pb').write_bytes(b'no')
  with pytest.raises(InputError, match='is no SavedModel'):
    StockProcess(tmp_path)
