"""The client and the checks over gRPC and REST, against an emulator."""

import dataclasses
import json
import socket

import helpers
import numpy as np
import pytest
import tensorflow as tf

from minigpt.conformance import report as reports
from minigpt.conformance import signature_checks, subject
from minigpt.conformance.load_test import load_test
from minigpt.errors import UsageError
from minigpt.generation.request import Request
from minigpt.serving import client, export_files
from minigpt.serving.endpoint import Deadline, EndpointError, pick
from minigpt.tokenizers.char import CharTokenizer

pytest.importorskip('tensorflow_serving', reason='no tensorflow-serving-api')
from serving_emulator import MODEL, emulator

PROTOCOLS = ('grpc', 'rest')
HOW = Request(9, 1.0, top_k=7, seed=3, repetition_penalty=1.5, min_new_tokens=2)
PROMPTS = ['ab', 'c\0\u00df', 'l\n\u0301 ad']


@pytest.fixture(scope='module')
def server(export_dir, session):
  with emulator(export_dir, session) as served:
    yield served


@pytest.fixture
def faults(server):
  yield server.faults
  server.faults.clear()


def connect(server, protocol, model=MODEL, timeout=60.0):
  return client.connect(getattr(server, protocol), model, protocol, timeout)


def kind(ask):
  with pytest.raises(EndpointError) as caught:
    ask()
  assert '\n' not in str(caught.value)
  return caught.value.kind


@pytest.mark.parametrize('protocol', PROTOCOLS)
def test_every_signature_answers_as_without_a_server(server, session, protocol):
  endpoint = connect(server, protocol)
  assert endpoint.signatures() == session.signatures()
  model = subject.prepare(session)
  for name in signature_checks.TABLE:
    inputs = subject.example_inputs(model, name)
    expected = session.predict(name, inputs)
    found = endpoint.predict(name, inputs)
    assert set(found) == set(expected)
    for key, value in expected.items():
      assert found[key].dtype == value.dtype
      np.testing.assert_array_equal(found[key], value)


@pytest.mark.parametrize('protocol', PROTOCOLS)
def test_the_checks_pass_on_a_sound_server(
  server, export_dir, run_dir, protocol
):
  report = reports.run_checks(
    lambda: connect(server, protocol), export_dir, run_dir
  )
  assert report.passed, reports.summary(report)
  assert {check.status for check in report.checks} == {'pass'}


@pytest.mark.parametrize('protocol', PROTOCOLS)
def test_generate_gives_each_row_its_own_seed(server, protocol):
  endpoint = connect(server, protocol)
  together = client.generate(endpoint, PROMPTS, HOW)
  for i, prompt in enumerate(PROMPTS):
    (alone,) = client.generate(
      endpoint, [prompt], dataclasses.replace(HOW, seed=HOW.seed + i)
    )
    assert alone.text == together[i].text
    np.testing.assert_array_equal(alone.tokens, together[i].tokens)
    assert alone.log_prob == pytest.approx(together[i].log_prob, abs=1e-4)
    assert len(alone.text) == 9
    assert alone.log_prob < 0


@pytest.mark.parametrize('protocol', PROTOCOLS)
def test_min_p_reaches_the_server(server, protocol):
  """With 1, only the most likely token is left to sample."""
  greedy, one, many = (
    client.generate(
      connect(server, protocol), ['abc'] * 3, Request(max_new_tokens=6, **how)
    )
    for how in (
      {'temperature': 0.0},
      {'temperature': 2.0, 'min_p': 1.0},
      {'temperature': 2.0, 'min_p': 0.01},
    )
  )
  texts = [[answer.text for answer in rows] for rows in (greedy, one, many)]
  assert texts[0] == texts[1]
  assert len(set(texts[2])) > 1


class OldExport:
  """Signatures of an export that is older than min_p."""

  def __init__(self, endpoint):
    self._endpoint = endpoint

  def signatures(self):
    found = self._endpoint.signatures()
    return {name: s for name, s in found.items() if '_v' not in name}

  def predict(self, signature, inputs):
    pick(self.signatures(), signature)
    assert 'min_p' not in inputs
    return self._endpoint.predict(signature, inputs)


def test_an_export_of_old_is_asked_for_what_it_knows(server):
  endpoint = connect(server, 'grpc')
  request = Request(max_new_tokens=3)
  found = client.generate(OldExport(endpoint), ['abc'], request)
  assert found[0].text == client.generate(endpoint, ['abc'], request)[0].text
  with pytest.raises(UsageError, match='min_p: the model was exported before'):
    client.generate(
      OldExport(endpoint), ['abc'], dataclasses.replace(request, min_p=0.1)
    )


def test_a_lone_prompt_is_one(server):
  endpoint = connect(server, 'grpc')
  assert len(client.generate(endpoint, 'abc', Request(max_new_tokens=1))) == 1


@pytest.mark.parametrize('protocol', PROTOCOLS)
def test_a_first_answer_has_one_time_with_the_signatures(
  server, protocol, monkeypatch
):
  endpoint, deadlines = connect(server, protocol), []
  call = endpoint._call

  def noted(deadline, *request):
    deadlines.append(deadline)
    return call(deadline, *request)

  monkeypatch.setattr(endpoint, '_call', noted)
  endpoint.predict('score', {'text': ['ab']})
  assert len(deadlines) == 2 and deadlines[0] is deadlines[1]


def test_a_deadline_passes(monkeypatch):
  clock = [5.0]
  monkeypatch.setattr('time.monotonic', lambda: clock[0])
  deadline = Deadline(3.0)
  clock[0] = 7.5
  assert deadline.left() == 0.5
  clock[0] = 8.0
  with pytest.raises(EndpointError, match=r'DEADLINE_EXCEEDED: .*within 3 s'):
    deadline.left()


def test_generate_ends_at_the_first_stop_string(server):
  endpoint = connect(server, 'grpc')
  (whole,) = client.generate(endpoint, ['ab'], HOW)
  stop = whole.text[4:6]
  (cut,) = client.generate(
    endpoint, ['ab'], dataclasses.replace(HOW, stop=(stop, '!'))
  )
  assert cut.text == whole.text[: whole.text.index(stop)]


@pytest.mark.parametrize('protocol', PROTOCOLS)
def test_a_stream_is_what_generate_writes_even_beyond_the_context(
  server, export_dir, protocol
):
  endpoint = connect(server, protocol)
  files = export_files.read(export_dir)
  for prompt in ['ab', 'abcdefghijkl' * 2]:
    (whole,) = client.generate(endpoint, [prompt], HOW)
    pieces = list(client.stream(endpoint, prompt, HOW, files))
    assert ''.join(pieces) == whole.text
    assert len(pieces) >= 3 and len(pieces[0]) == 1


def test_what_ends_the_answers_of_an_export_ends_a_stream(server, export_dir):
  endpoint, files = connect(server, 'grpc'), export_files.read(export_dir)
  (whole,) = client.generate(endpoint, ['ab'], HOW)
  for request, stop, n_kept in (
    (HOW, [whole.text[4:6]], 4),
    (dataclasses.replace(HOW, stop=whole.text[2:4]), [whole.text[4:6]], 2),
  ):
    pieces = client.stream(endpoint, 'ab', request, files._replace(stop=stop))
    assert ''.join(pieces) == whole.text[:n_kept]


# Bad input.


@pytest.mark.parametrize(
  ('name', 'values'),
  [
    ('num_tokens', [0]),
    ('num_tokens', [-1]),
    ('num_tokens', [99]),
    ('next_prompt_len', [0]),
    ('next_prompt_len', [99]),
  ],
)
def test_malformed_chunks_are_said_to_be(server, faults, name, values):
  faults['outputs'] = lambda outputs: _swap(
    outputs, name, np.array(values, np.int32)
  )
  files = export_files.ExportFiles('m', CharTokenizer('abcdefghijklmnopq'), 12)
  pieces = client.stream(connect(server, 'grpc'), 'ab', HOW, files)
  assert kind(lambda: list(pieces)) == 'MALFORMED'


@pytest.mark.parametrize('protocol', PROTOCOLS)
def test_an_unknown_model_is_named(server, protocol):
  endpoint = connect(server, protocol, model='hamlet')
  with pytest.raises(EndpointError, match=r'NOT_FOUND: .*hamlet'):
    endpoint.signatures()


@pytest.mark.parametrize('protocol', PROTOCOLS)
def test_a_server_that_is_down_is_unavailable(protocol):
  with socket.socket() as free:
    free.bind(('127.0.0.1', 0))
    target = f'127.0.0.1:{free.getsockname()[1]}'
  endpoint = client.connect(target, MODEL, protocol, 5.0)
  assert kind(endpoint.signatures) == 'UNAVAILABLE'


@pytest.mark.parametrize('protocol', PROTOCOLS)
def test_a_slow_server_runs_into_the_timeout(server, faults, protocol):
  endpoint = connect(server, protocol, timeout=0.2)
  faults['seconds'] = 1.0
  assert kind(endpoint.signatures) == 'DEADLINE_EXCEEDED'


@pytest.mark.parametrize('protocol', PROTOCOLS)
def test_a_bad_value_is_refused_by_name(server, protocol):
  endpoint = connect(server, protocol)
  inputs = {
    'prompt': ['ab'],
    **client.sampling_inputs(dataclasses.replace(HOW, top_p=2.0), 1),
  }
  with pytest.raises(EndpointError, match=r'INVALID_ARGUMENT: .*top_p=2'):
    endpoint.predict('generate', inputs)
  with pytest.raises(UsageError, match='top_p=2'):
    client.generate(endpoint, ['ab'], dataclasses.replace(HOW, top_p=2.0))
  with pytest.raises(UsageError, match='num_beams=2: a server cannot'):
    client.generate(endpoint, ['ab'], dataclasses.replace(HOW, num_beams=2))


@pytest.mark.parametrize('protocol', PROTOCOLS)
def test_numbers_beyond_their_type_are_refused_before_they_are_sent(
  server, protocol
):
  endpoint = connect(server, protocol)
  for name in ('seed', 'top_k', 'max_new_tokens'):
    with pytest.raises(UsageError, match=f'{name}=9223372036854775808'):
      client.generate(
        endpoint, ['ab'], dataclasses.replace(HOW, **{name: 2**63})
      )
  for k in (2**31, 1.0, True, None, '1'):
    with pytest.raises(UsageError, match=r'next_token\.k must be int32'):
      endpoint.predict('next_token', {'prompt': ['ab'], 'k': [k]})


def score(**outputs):
  """Returns the body of an answer of `score`, with outputs changed."""
  sound = {
    'log_prob': [-1.0],
    'num_tokens': [1],
    'perplexity': [2.0],
    'num_dropped': [0],
  }
  return json.dumps({'outputs': {**sound, **outputs}})


def nested(depth):
  return '[' * depth + ']' * depth


@pytest.mark.parametrize(
  'body',
  [
    '{"outputs": ',
    'null',
    '{"predictions": []}',
    '{"outputs": 3}',
    '{"outputs": {"log_prob": [1.0]}}',
    '{"outputs": ' + nested(300) + '}',
    nested(100_000),
    score(log_prob=['x']),
    score(log_prob=['1.5']),
    score(log_prob=[None]),
    score(log_prob=[True]),
    score(log_prob=[1e39]),
    score(log_prob=[10**400]),
    score(log_prob=[[1.0]]),
    score(log_prob=[[1.0], [1.0, 2.0]]),
    score(log_prob=[-1.0, -2.0]),
    score(log_prob=[]),
    score(num_tokens=[1.5]),
    score(num_tokens=[2**31]),
    score(num_tokens=[2**64]),
    score(num_tokens=json.loads(nested(100))),
  ],
)
def test_malformed_json_is_said_to_be(server, faults, body):
  endpoint = connect(server, 'rest')
  endpoint.signatures()
  faults['body'] = score()
  found = endpoint.predict('score', {'text': ['ab']})
  assert found['log_prob'].tolist() == [-1.0]
  faults['body'] = body
  ask = lambda: endpoint.predict('score', {'text': ['ab']})  # noqa: E731
  assert kind(ask) == 'MALFORMED'


@pytest.mark.parametrize(
  'text', [[3], [None], [{}], [{'b64': 3}], [{'b64': '?'}], [['a']], ['\ud800']]
)
def test_malformed_text_is_said_to_be(server, faults, text):
  endpoint = connect(server, 'rest')
  endpoint.signatures()
  faults['body'] = json.dumps({'outputs': {'text': text, 'text_bytes': text}})
  ask = lambda: endpoint.predict('serving_default', {'prompt': ['ab']})  # noqa: E731
  assert kind(ask) == 'MALFORMED'


def test_a_length_that_lies_takes_no_memory(server, faults):
  endpoint = connect(server, 'rest')
  faults['length'] = 2**62
  faults['body'] = '{}'
  assert kind(endpoint.signatures) == 'MALFORMED'


def test_the_timeout_is_for_the_whole_answer(server, faults):
  endpoint = connect(server, 'rest', timeout=0.3)
  faults['body'], faults['drip'] = ' ' * 40, 0.05
  assert kind(endpoint.signatures) == 'DEADLINE_EXCEEDED'


def _claim(outputs, name, shape):
  del outputs[name].tensor_shape.dim[:]
  for size in shape:
    outputs[name].tensor_shape.dim.add(size=size)


def _swap(outputs, name, array):
  outputs[name].CopyFrom(tf.make_tensor_proto(array))


@pytest.mark.parametrize(
  'spoil',
  [
    lambda outputs: outputs.pop('log_prob'),
    lambda outputs: _swap(outputs, 'log_prob', np.zeros([1])),
    lambda outputs: _swap(outputs, 'log_prob', ['x']),
    lambda outputs: _swap(outputs, 'log_prob', np.zeros([1, 1], np.float32)),
    lambda outputs: _swap(outputs, 'log_prob', np.zeros([2], np.float32)),
    lambda outputs: _swap(outputs, 'log_prob', np.zeros([0], np.float32)),
    lambda outputs: _claim(outputs, 'log_prob', [2**30]),
    lambda outputs: _claim(outputs, 'tokens', [1, 2**27]),
    lambda outputs: _claim(outputs, 'tokens', [1, -1]),
    lambda outputs: _claim(outputs, 'tokens', []),
    lambda outputs: _swap(outputs, 'num_tokens', np.array([99], np.int32)),
    lambda outputs: _swap(outputs, 'num_tokens', np.array([-1], np.int32)),
  ],
)
def test_malformed_tensors_are_said_to_be(server, faults, spoil):
  endpoint = connect(server, 'grpc')
  request = Request(max_new_tokens=3)
  assert client.generate(endpoint, ['ab'], request)[0].log_prob < 0
  faults['outputs'] = spoil
  assert kind(lambda: client.generate(endpoint, ['ab'], request)) == 'MALFORMED'


def test_bytes_that_are_no_message_are_said_to_be(server, faults, capfd):
  endpoint = connect(server, 'grpc')
  faults['bytes'] = b'\xff\xff'
  assert kind(endpoint.signatures) == 'MALFORMED'
  assert 'Traceback' not in capfd.readouterr().err


def metadata(signature):
  """Returns the body of a metadata answer with one signature."""
  signatures = {'signature_def': {'signature_def': {'score': signature}}}
  return json.dumps({'metadata': signatures})


def tensor(**fields):
  method = 'tensorflow/serving/predict'
  tensor = {'name': 'x:0', 'dtype': 'DT_INT32', **fields}
  return metadata({'method_name': method, 'inputs': {'text': tensor}})


@pytest.mark.parametrize(
  'body',
  [
    '[]',
    '{"metadata": 3}',
    'no',
    metadata(3),
    tensor(dtype='DT_NONE'),
    tensor(dtype='DT_INVALID'),
    tensor(dtype=999),
    tensor(tensor_shape={'dim': [{'size': str(2**70)}]}),
  ],
)
def test_malformed_metadata_is_said_to_be(server, faults, body):
  faults['body'] = body
  assert kind(connect(server, 'rest').signatures) == 'MALFORMED'


def test_a_server_that_speaks_another_protocol(server):
  endpoint = client.connect(server.grpc, MODEL, 'rest', 5.0)
  assert kind(endpoint.signatures) in ('MALFORMED', 'UNAVAILABLE')


@pytest.mark.parametrize(
  ('target', 'model', 'protocol', 'timeout', 'words'),
  [
    ('localhost', MODEL, 'grpc', 1.0, 'give it as host:port'),
    ('localhost:http', MODEL, 'grpc', 1.0, 'give it as host:port'),
    ('localhost:65536', MODEL, 'grpc', 1.0, 'give it as host:port'),
    ('localhost:1', '', 'grpc', 1.0, 'model name is empty'),
    ('localhost:1', MODEL, 'rset', 1.0, "did you mean 'rest'"),
    ('localhost:1', MODEL, 'rest', 0.0, 'timeout=0'),
    ('localhost:1', MODEL, 'rest', float('nan'), 'timeout=nan'),
    ('localhost:1', MODEL, 'grpc', float('inf'), 'timeout=inf'),
    ('local host:1', MODEL, 'rest', 1.0, 'give it as host:port'),
    ('localhost:' + '9' * 5000, MODEL, 'rest', 1.0, 'give it as host:port'),
  ],
)
def test_connections_that_make_no_sense(
  target, model, protocol, timeout, words
):
  with pytest.raises(UsageError, match=words):
    client.connect(target, model, protocol, timeout)


# Load.


def test_a_load_test_counts_answers_and_errors_by_kind(server):
  endpoint = connect(server, 'grpc')

  def ask(i):
    prompt = '?' if i % 3 == 0 else 'ab'
    client.generate(endpoint, [prompt], dataclasses.replace(HOW, seed=i))

  load = load_test(ask, n_requests=10, concurrency=4)
  assert load.errors == {'INVALID_ARGUMENT': 4}
  assert len(load.latencies) == 6
  assert 0 < load.latencies.max() <= load.seconds
  assert load.throughput == pytest.approx(6 / load.seconds)


# The program.


def test_the_command_against_a_server(server, tmp_path, capsys):
  target, name = f'--target={server.grpc}', f'--model_name={MODEL}'
  load = [target, name, '--load_test', '--requests=6', '--concurrency=2']
  small = '--max_new_tokens=4'
  calls = [
    ([target, name], 0, 'passed'),
    ([*load, small], 0, 'errors: none'),
    ([*load, small, '--json'], 0, '"requests": 6'),
    ([*load, '--max_new_tokens=10'], 1, 'errors: 6 INVALID_ARGUMENT'),
    ([*load, '--requests=0'], 2, '--requests=0: it must be 1 or more'),
    ([*load, '--concurrency=1025'], 2, 'it must lie in [1, 1024]'),
    (['--target=127.0.0.1:1', name], 1, 'UNAVAILABLE'),
    ([target, '--model_name=hamlet'], 1, 'hamlet'),
    ([target], 2, 'the model name is empty'),
    ([target, name, '--protocol=tcp'], 2, 'unknown protocol'),
    ([], 2, 'give --export_dir'),
    (['--load_test'], 2, 'give --export_dir'),
    ([target, name, '--compute_dtype=bf16'], 2, "unknown compute_dtype 'bf16'"),
    ([target, name, '--server_python=x'], 2, '--server_python is for'),
    ([f'--export_dir={tmp_path}'], 1, 'holds no SavedModel'),
    ([target, name, f'--workdir={tmp_path}'], 1, 'holds no run'),
  ]
  for argv, code, words in calls:
    found = helpers.run_here('serve-check', *argv)
    out, err = capsys.readouterr()
    assert found == code, (argv, out, err)
    assert words in out + err, (argv, out, err)
    if 'errors:' not in words and code:
      assert len(err.splitlines()) == 1 and out == '', (argv, out, err)
