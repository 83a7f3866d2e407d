"""Errors, limits and lost clients: each gets its answer, others no harm."""

import concurrent.futures
import contextlib
import json
import os
import re
import resource
import signal
import socket
import urllib.parse

import helpers
import httpx
import numpy as np
import pytest
from http_server_fixtures import MODEL, Gate, serve, wait_until

from minigpt.generation.request import Request
from minigpt.http_server import run, scheduler
from minigpt.http_server.scheduler import Limits
from minigpt.http_server.service import Bounds
from minigpt.serving import client as serving_client
from minigpt.serving.endpoint import EndpointError

ASK = {'model': MODEL, 'prompt': 'abc', 'max_tokens': 3, 'seed': 3}
CHAT = {'model': MODEL, 'messages': [{'role': 'user', 'content': 'ab'}]}


def post(served, body, path='/v1/completions'):
  content = body if isinstance(body, bytes) else json.dumps(body).encode()
  return httpx.post(served.url + path, content=content, timeout=60)


def error(answer):
  """Returns the fields of an error, after checking its format."""
  about = answer.json()['error']
  assert set(about) == {'message', 'type', 'param', 'code'}
  assert about['message'] and '\n' not in about['message']
  return about


@pytest.mark.parametrize(
  'body, said',
  [
    (b'', 'not JSON'),
    (b'{"model": ', 'not JSON'),
    (b'\xff\xfe', 'not JSON'),
    (b'[' * 100_000, 'not JSON'),
    (b'{"model": NaN}', 'NaN is no JSON'),
    (b'[1, 2]', 'must be a JSON object'),
    (b'null', 'must be a JSON object'),
  ],
)
def test_a_body_that_is_no_json_object(embedded, body, said):
  answer = post(embedded, body)
  assert answer.status_code == 400
  assert said in error(answer)['message']


@pytest.mark.parametrize(
  'change, param',
  [
    ({'model': None}, 'model'),
    ({'model': 3}, 'model'),
    ({'prompt': []}, 'prompt'),
    ({'prompt': 3}, 'prompt'),
    ({'prompt': ['a', None]}, 'prompt'),
    ({'prompt': [['a']]}, 'prompt'),
    ({'prompt': [17]}, 'prompt'),
    ({'prompt': [-1]}, 'prompt'),
    ({'prompt': [2**70]}, 'prompt'),
    ({'prompt': [True]}, 'prompt'),
    ({'prompt': 'aZ'}, 'prompt'),
    ({'prompt': '\ud800'}, 'prompt'),
    ({'prompt': 'a' * 13}, 'prompt'),
    ({'prompt': ['a'] * 129}, 'n'),
    ({'max_tokens': 0}, 'max_tokens'),
    ({'max_tokens': 4097}, 'max_tokens'),
    ({'max_tokens': 1.5}, 'max_tokens'),
    ({'max_tokens': True}, 'max_tokens'),
    ({'n': 0}, 'n'),
    ({'n': 129}, 'n'),
    ({'temperature': -1}, 'temperature'),
    ({'temperature': 'hot'}, 'temperature'),
    ({'top_p': 0}, 'top_p'),
    ({'top_k': 2**40}, 'top_k'),
    ({'seed': 2**70}, 'seed'),
    ({'seed': 1.5}, 'seed'),
    ({'stop': ['a'] * 5}, 'stop'),
    ({'stop': [1]}, 'stop'),
    ({'stop': ''}, None),
    ({'logprobs': 6}, 'logprobs'),
    ({'best_of': 2}, 'best_of'),
    ({'echo': True}, 'echo'),
    ({'frequency_penalty': 0.5}, 'frequency_penalty'),
    ({'logit_bias': {'3': 5}}, 'logit_bias'),
    ({'stream': 'yes'}, 'stream'),
    ({'stream_options': {'usage': True}}, 'usage'),
    ({'temprature': 1}, 'temprature'),
  ],
)
def test_a_field_that_is_wrong_is_named(embedded, change, param):
  answer = post(embedded, ASK | change)
  assert answer.status_code == 400, answer.text
  assert error(answer)['param'] == param
  assert error(answer)['type'] == 'invalid_request_error'


@pytest.mark.parametrize(
  'change',
  [
    {'messages': []},
    {'messages': 'ab'},
    {'messages': ['ab']},
    {'messages': [{'content': 'ab'}]},
    {'messages': [{'role': 'user', 'content': None}]},
    {'messages': [{'role': 'user', 'content': [{'type': 'image_url'}]}]},
    {'messages': [{'role': 'user', 'content': '\ud800'}]},
    {'top_logprobs': 2},
    {'logprobs': True, 'top_logprobs': 21},
    {'response_format': {'type': 'json_object'}},
    {'tools': [{'type': 'function'}]},
  ],
)
def test_a_field_of_a_chat_that_is_wrong_is_named(embedded, change):
  answer = post(embedded, CHAT | change, '/v1/chat/completions')
  assert answer.status_code == 400, answer.text
  assert error(answer)['param'] in change


@pytest.mark.parametrize(
  'change, param',
  [
    ({'input': []}, 'input'),
    ({'input': [1, 2]}, 'input'),
    ({'input': ['a'] * 65}, 'input'),
    ({'encoding_format': 'int8'}, 'encoding_format'),
    ({'dimensions': 8}, 'dimensions'),
  ],
)
def test_a_field_of_an_embedding_that_is_wrong_is_named(
  embedded, change, param
):
  body = {'model': MODEL, 'input': 'abc'} | change
  answer = post(embedded, body, '/v1/embeddings')
  assert (answer.status_code, error(answer)['param']) == (400, param)


def test_fields_that_change_nothing_are_taken(embedded):
  neutral = {'user': 'me', 'echo': False, 'frequency_penalty': 0, 'n': None}
  assert post(embedded, ASK | neutral).status_code == 200


@pytest.mark.parametrize(
  'method, path, status',
  [
    ('GET', '/v1/completions', 405),
    ('POST', '/v1/nothing', 404),
    ('GET', '/', 404),
  ],
)
def test_paths_that_lead_nowhere(embedded, method, path, status):
  answer = httpx.request(method, embedded.url + path)
  assert answer.status_code == status
  error(answer)


def test_a_model_without_a_template_has_no_chats(session):
  with serve(session) as served:
    answer = post(served, CHAT, '/v1/chat/completions')
    assert answer.status_code == 400
    assert '--chat_template' in error(answer)['message']


def test_a_prompt_of_ten_megabytes_is_refused(embedded):
  answer = post(embedded, ASK | {'prompt': 'a' * 10_000_000})
  assert answer.status_code == 413
  assert str(1 << 20) in error(answer)['message']


def test_a_longer_prompt_keeps_its_end_where_it_may(session):
  with serve(session, bounds=Bounds(prompt_tokens=20)) as served:
    long, end = (
      post(served, ASK | {'prompt': p}) for p in ('l' * 20, 'l' * 12)
    )
    assert long.json()['choices'] == end.json()['choices']
    assert post(served, ASK | {'prompt': 'l' * 21}).status_code == 400


def test_what_is_no_http_is_refused_in_the_form_of_the_api(embedded):
  address = urllib.parse.urlsplit(embedded.url)
  with socket.create_connection((address.hostname, address.port)) as link:
    link.sendall(b'hello\r\n\r\n')
    head, body = link.makefile('rb').read().split(b'\r\n\r\n')
  assert head.startswith(b'HTTP/1.1 400')
  assert json.loads(body)['error']['type'] == 'invalid_request_error'


def test_beyond_the_connections_and_at_a_bug_errors_have_their_form(session):
  with serve(session, max_connections=1) as served:
    address = urllib.parse.urlsplit(served.url)
    with socket.create_connection((address.hostname, address.port)):
      answer = httpx.get(f'{served.url}/health')
    assert answer.status_code == 503 and answer.headers['retry-after']
    assert 'too many connections' in error(answer)['message']

    def broken(*counts):
      raise AssertionError

    served.service.metrics.text = broken
    # The server may not have noticed yet that the first connection is gone.
    wait_until(lambda: httpx.get(f'{served.url}/health').status_code == 200)
    answer = httpx.get(f'{served.url}/metrics')
    assert answer.status_code == 500
    assert error(answer)['message'] == 'AssertionError in the server'


def test_health_and_metrics(embedded):
  assert httpx.get(f'{embedded.url}/health').json() == {'status': 'ok'}
  post(embedded, ASK)
  text = httpx.get(f'{embedded.url}/metrics').text
  counted = re.search(
    r'requests_total{path="/v1/completions",status="200"} (\d+)', text
  )
  assert int(counted[1]) > 0
  assert re.search(r'^minigpt_generated_tokens_total [1-9]', text, re.M)
  assert re.search(r'^minigpt_active_rows 0$', text, re.M)
  for line in text.splitlines():
    assert re.fullmatch(r'# TYPE \w+ \w+|\w+({.*})? [\d.]+', line), line


# Sharing batches.


@pytest.fixture
def gate(session):
  return Gate(session)


def test_requests_that_are_there_together_share_batches(gate, session):
  limits = Limits(max_batch=3, chunk=4)
  with (
    concurrent.futures.ThreadPoolExecutor(8) as pool,
    serve(gate, limits) as served,
  ):
    first = pool.submit(post, served, ASK | {'max_tokens': 12})
    gate.asked.acquire()
    others = []
    for n in (8, 4, 4):
      body = ASK | {'max_tokens': n, 'seed': n}
      others.append(pool.submit(post, served, body))
      waits = (1, len(others))
      wait_until(lambda: served.service.scheduler.counts() == waits)  # noqa: B023
    gate.turns.release(100)
    # One row joins in place of the one that has left.
    for n, answer in zip((8, 4, 4), others, strict=True):
      (alone,) = serving_client.generate(
        session, ['abc'], Request(n, temperature=1.0, seed=n)
      )
      assert answer.result().json()['choices'][0]['text'] == alone.text
    assert first.result().json()['usage']['completion_tokens'] == 12
  assert gate.batches == [1, 3, 3]


def test_who_asks_again_at_once_misses_no_chunk(gate, monkeypatch):
  monkeypatch.setattr(scheduler, '_PATIENCE', 1e6)
  with (
    concurrent.futures.ThreadPoolExecutor(3) as pool,
    serve(gate, Limits(max_batch=2, chunk=4)) as served,
  ):
    long = pool.submit(post, served, ASK | {'max_tokens': 12})
    gate.asked.acquire()
    short = pool.submit(post, served, ASK | {'max_tokens': 4})
    wait_until(lambda: served.service.scheduler.counts() == (1, 1))
    gate.turns.release(2)
    assert short.result().status_code == 200
    again = pool.submit(post, served, ASK | {'max_tokens': 4})
    gate.turns.release(100)
    assert again.result().status_code == long.result().status_code == 200
  assert gate.batches == [1, 2, 2]


def test_who_finds_the_queue_full_may_come_again(gate):
  limits = Limits(max_batch=1, max_waiting=1)
  with (
    concurrent.futures.ThreadPoolExecutor(8) as pool,
    serve(gate, limits) as served,
  ):
    answers = [pool.submit(post, served, ASK)]
    gate.asked.acquire()
    answers.append(pool.submit(post, served, ASK))
    wait_until(lambda: served.service.scheduler.counts() == (1, 1))
    refused = post(served, ASK)
    assert refused.status_code == 429
    assert refused.headers['retry-after'] == '1'
    assert error(refused)['type'] == 'rate_limit_error'
    gate.turns.release(100)
    assert {answer.result().status_code for answer in answers} == {200}


def test_a_row_that_the_model_refuses_fails_alone(session):
  class Refusing:
    def signatures(self):
      return session.signatures()

    def predict(self, name, inputs):
      if 4 in inputs['ids'][:, 0]:
        raise EndpointError('INVALID_ARGUMENT', 'ids=4 in row 0')
      return session.predict(name, inputs)

  with serve(Refusing()) as served:
    assert post(served, ASK | {'prompt': [[3], [5]]}).status_code == 200
    answer = post(served, ASK | {'prompt': [[3], [4]]})
    assert answer.status_code == 400 and 'ids=4' in error(answer)['message']
    assert post(served, ASK).status_code == 200


@pytest.mark.parametrize(
  'kind, status',
  [('UNAVAILABLE', 503), ('DEADLINE_EXCEEDED', 504), ('MALFORMED', 500)],
)
def test_a_model_that_gives_no_answer(session, kind, status):
  class Down:
    def signatures(self):
      return session.signatures()

    def predict(self, name, inputs):
      raise EndpointError(kind, 'no')

  with serve(Down()) as served:
    answer = post(served, ASK)
    assert answer.status_code == status
    assert error(answer)['type'] == 'server_error'
    with httpx.stream(
      'POST',
      f'{served.url}/v1/completions',
      json=ASK | {'stream': True},
    ) as stream:
      (line,) = [line for line in stream.iter_lines() if line]
    assert kind in json.loads(line.removeprefix('data: '))['error']['message']


# Clients that go away.


def raw(served, body, size=None, room=None):
  """Opens a connection and sends a request; buffers only `room` bytes."""
  host = urllib.parse.urlsplit(served.url)
  connection = socket.socket()
  if room:
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, room)
  connection.connect((host.hostname, host.port))
  data = json.dumps(body).encode()
  head = (
    'POST /v1/completions HTTP/1.1\r\nHost: x\r\n'
    f'Content-Length: {len(data) if size is None else size}\r\n\r\n'
  )
  connection.sendall(head.encode() + data)
  return connection


@pytest.mark.parametrize('stream', [False, True])
def test_a_client_that_goes_away_frees_its_row(gate, stream):
  with serve(gate, Limits(chunk=4)) as served:
    ask = ASK | {'max_tokens': 4000, 'stream': stream, 'n': 2}
    connection = raw(served, ask)
    gate.asked.acquire()
    gate.turns.release()
    gate.asked.acquire()
    connection.close()
    jobs = served.service.scheduler._active
    wait_until(lambda: all(job.cancelled for job in jobs))
    gate.turns.release()
    wait_until(lambda: served.service.scheduler.counts() == (0, 0))
    assert len(gate.batches) == 2
    gate.turns.release(10)
    assert post(served, ASK).status_code == 200


def test_a_client_that_waits_in_the_queue_leaves_it(gate):
  with serve(gate, Limits(max_batch=1)) as served:
    first = raw(served, ASK)
    gate.asked.acquire()
    second = raw(served, ASK)
    wait_until(lambda: served.service.scheduler.counts() == (1, 1))
    (job,) = served.service.scheduler._waiting
    second.close()
    wait_until(lambda: job.cancelled)
    gate.turns.release(10)
    assert b'200 OK' in first.recv(1000)
    first.close()
    assert len(gate.batches) == 1


def test_a_slow_reader_holds_nobody_up(session):
  with serve(session, Limits(max_batch=2)) as served:
    ask = ASK | {'max_tokens': 1000, 'stream': True, 'n': 2, 'logprobs': 5}
    slow = raw(served, ask, room=4096)
    slow.recv(10)
    # It must wait for both rows, whose text does not fit into the buffers.
    assert post(served, ASK).status_code == 200
    counted = httpx.get(f'{served.url}/metrics').text
    assert 'requests_total{path="/v1/completions",status="200"} 1' in counted
    slow.close()


def test_a_body_that_never_comes_times_out(session):
  with serve(session, bounds=Bounds(body_seconds=0.2)) as served:
    with contextlib.closing(raw(served, ASK, size=1000)) as connection:
      assert b'408' in connection.recv(1000)
    assert post(served, ASK).status_code == 200


def test_what_is_no_http_is_refused(embedded):
  host = urllib.parse.urlsplit(embedded.url)
  for data in (
    b'\0\xff' * 100 + b'\r\n\r\n',
    b'GET / HTTP/1.1\r\nno header\r\n\r\n',
  ):
    with socket.create_connection((host.hostname, host.port)) as connection:
      connection.sendall(data)
      assert b' 400 ' in connection.recv(1000)


def test_two_hundred_connections_get_what_each_asked_for(embedded, session):
  seeds = range(200)
  asked = [Request(3, temperature=1.0, seed=seed) for seed in seeds]
  rows = [r.options(1) for r in asked]
  inputs = {k: np.concatenate([row[k] for row in rows]) for k in rows[0]}
  whole = session.predict('generate_v2', {'prompt': ['abc'] * 200, **inputs})

  limits = httpx.Limits(max_connections=200)
  with (
    httpx.Client(limits=limits, timeout=120) as client,
    concurrent.futures.ThreadPoolExecutor(200) as pool,
  ):

    def ask(seed):
      body = ASK | {'seed': seed}
      return client.post(f'{embedded.url}/v1/completions', json=body)

    answers = list(pool.map(ask, seeds))
  for answer, text in zip(answers, whole['text'], strict=True):
    assert answer.status_code == 200
    assert answer.json()['choices'][0]['text'] == text.decode()


# The program.


def test_sigterm_lets_answers_end(export_dir, tmp_path):
  files = tmp_path / 'out', tmp_path / 'err'
  process = helpers.start(
    '-m',
    'minigpt',
    'serve',
    f'--export_dir={export_dir.parent}',
    '--port=0',
    files=files,
  )
  wait_until(lambda: files[0].exists() and '/v1' in files[0].read_text())
  url = re.search(r'http://\S+', files[0].read_text())[0]
  body = ASK | {'max_tokens': 400, 'stream': True}
  with httpx.stream(
    'POST', f'{url}/completions', json=body, timeout=60
  ) as stream:
    lines = stream.iter_lines()
    first = next(lines)
    os.kill(process.pid, signal.SIGTERM)
    rest = [line for line in lines if line]
  process.join(60)
  assert process.exitcode == 0, files[1].read_text()
  assert rest[-1] == 'data: [DONE]'
  events = [json.loads(e.removeprefix('data: ')) for e in [first, *rest[:-1]]]
  assert len(''.join(e['choices'][0]['text'] for e in events)) == 400
  with pytest.raises(httpx.ConnectError):
    httpx.get(f'{url}/models')


def test_the_command_refuses_what_it_cannot_serve(export_dir, tmp_path, capsys):
  served = f'--export_dir={export_dir}'
  with socket.create_server(('127.0.0.1', 0)) as taken:
    port = taken.getsockname()[1]
    for argv, code, words in (
      ([], 2, 'give --export_dir'),
      ([f'--export_dir={tmp_path}', '--port=0'], 1, 'holds no SavedModel'),
      ([served, '--max_batch=0'], 2, '--max_batch=0: it must be 1'),
      ([served, '--port=70000'], 2, '--port=70000'),
      ([served, '--stop=\udcff'], 2, "stop=('\\udcff',)"),
      ([served, f'--port={port}'], 1, f'127.0.0.1:{port} cannot be used'),
      ([served, '--target=127.0.0.1:1', '--port=0'], 1, 'UNAVAILABLE'),
      ([served, '--chat_template=x', '--port=0'], 1, 'x: no chat template'),
    ):
      found = helpers.run_here('serve', *argv)
      out, err = capsys.readouterr()
      assert (found, out) == (code, ''), (argv, out, err)
      assert words in err and len(err.splitlines()) == 1, (argv, err)


def test_a_kept_connection_waits_for_no_acknowledgement():
  listening = run.listen('127.0.0.1', 0)
  with listening, socket.create_connection(listening.getsockname()):
    accepted, _ = listening.accept()
    with accepted:
      assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


def test_memory_is_flat_over_many_requests_errors_among_them(embedded):
  def rss():
    with open('/proc/self/statm') as file:
      return int(file.read().split()[1]) * resource.getpagesize()

  with httpx.Client(timeout=60) as client:
    for i in range(300):
      if i == 100:
        before = rss()
      body = ASK | {'max_tokens': 1, 'prompt': 'aZ' if i % 3 else 'abc'}
      client.post(f'{embedded.url}/v1/completions', json=body)
  assert rss() - before < 20e6
