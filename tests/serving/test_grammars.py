"""Answers that keep a form: on the host, in signatures, in chunks, over HTTP.

An export of three signatures stands behind all of it.
"""

import contextlib
import json
import re
import types
from dataclasses import replace

import helpers
import numpy as np
import pytest
import tensorflow as tf

from minigpt import tokenizers
from minigpt.checkpoints.loading import LoadedModel
from minigpt.config import GPTConfig
from minigpt.conformance import grammar_checks
from minigpt.conformance.serving_session import ServingSession
from minigpt.conformance.subject import CheckError, ModelFiles, ModelUnderTest
from minigpt.errors import UsageError
from minigpt.generation import grammar
from minigpt.generation.generator import Generator
from minigpt.generation.grammar import Grammar
from minigpt.generation.request import Request
from minigpt.http_server import protocol
from minigpt.http_server.errors import HttpError
from minigpt.http_server.scheduler import Job
from minigpt.model.transformer import GPT
from minigpt.serving import chunks, client, grpc_endpoint, warmup
from minigpt.serving.endpoint import EndpointError
from minigpt.serving.export_files import ExportFiles
from minigpt.serving.signature_inputs import signature_inputs
from minigpt.serving.signatures import Server
from minigpt.tokenizers.word import WordTokenizer

PLAN = {
  'type': 'object',
  'properties': {
    'name': {'type': 'string', 'maxLength': 6},
    'n': {'type': 'integer'},
    'day': {'type': 'string', 'format': 'date'},
  },
  'required': ['name'],
}
LIST = {'type': 'array', 'items': {'enum': ['ab', 1, None]}, 'maxItems': 3}
GRAMMARS = [
  Grammar('number', r'-?[0-9]{1,4}(\.[0-9]+)?'),
  Grammar('yes', 'yes|no|yes, no'),
  Grammar('email', r'[a-z]+(\.[a-z]+)*@[a-z]+\.(com|org)'),
  grammar.from_schema('plan', PLAN),
  grammar.from_schema('list', LIST),
]
LIMIT = 40
CHARACTERS = tokenizers.build('char', ''.join(map(chr, range(32, 127))))
FILES = ExportFiles('shakespeare', CHARACTERS, 16, stop=('e',))


@pytest.fixture(scope='module')
def model():
  # A wide distribution, to try many ways.
  config = GPTConfig(95, 16, 8, 2, 1, drop_rate=0.0, init_std=0.2)
  return GPT(config)


@pytest.fixture(scope='module')
def server(model):
  return Server(
    model.params, model.config, CHARACTERS, LIMIT, ('e',), grammars=GRAMMARS
  )


@pytest.fixture(scope='module')
def saved(server, tmp_path_factory):
  """An export with the signatures that these tests need."""
  path = tmp_path_factory.mktemp('grammars') / '1'
  inputs = signature_inputs(server._config, grammars=True, attention=False)
  names = 'generate_grammar', 'generate_chunk', 'generate_chunk_grammar'
  signatures = {name: server._signature(name, inputs[name]) for name in names}
  tf.saved_model.save(server, str(path), signatures)
  session = ServingSession(path)
  yield path, session
  session.close()


@pytest.fixture(scope='module')
def endpoint(saved):
  return saved[1]


@pytest.fixture(scope='module')
def live(model):
  # All tests share one program, as the compiled loop is the same.
  return Generator(
    model.params, model.config, CHARACTERS, 'graph', grammars=GRAMMARS
  )


def fits(name, text):
  """Checks an answer by other means than the automaton."""
  if name == 'plan':
    value = json.loads(text)
    assert {*value} <= {*PLAN['properties']} and len(value['name']) <= 6
    return isinstance(value.get('n', 0), int)
  if name == 'list':
    return {*map(str, json.loads(text))} <= {'ab', '1', 'None'}
  (regex,) = (g.regex for g in GRAMMARS if g.name == name)
  return re.fullmatch(regex, text) is not None


@pytest.mark.parametrize('name', [g.name for g in GRAMMARS])
def test_every_answer_fits_its_grammar(name, endpoint, live):
  request = Request(LIMIT, temperature=1.0, seed=7, grammar=name)
  prompts = [f'{i}:' for i in range(20)]
  texts = [a.text for a in client.generate(endpoint, prompts, request)]
  assert all(fits(name, text) for text in texts)
  assert len({*texts}) > 1
  assert live(prompts[:2], request) == texts[:2]


def test_the_last_tokens_are_kept_for_what_must_come(endpoint, live):
  for n in 11, 12, 14:  # {"name":""} has 11 characters.
    request = Request(n, temperature=1.0, grammar='plan')
    answers = client.generate(endpoint, ['a'] * 5, request)
    assert all(fits('plan', a.text) for a in answers)
    assert all(11 <= len(a.tokens) <= n for a in answers)
  with pytest.raises(EndpointError, match='it must be 11 or more for its gram'):
    client.generate(endpoint, ['a'], replace(request, max_new_tokens=10))
  with pytest.raises(UsageError, match='grammar plan has 11 tokens'):
    live(['a'], replace(request, max_new_tokens=10))


def test_an_answer_ends_where_the_tokens_left_allow_no_longer_one(
  endpoint, live
):
  request = Request(6, temperature=1.0, grammar='yes')  # 'yes, no' has 7.
  texts = [a.text for a in client.generate(endpoint, ['a'] * 9, request)]
  assert {*texts} == {'yes', 'no'}
  for how in request, replace(request, num_beams=2):
    assert {*live(['a'] * 9, how)} <= {'yes', 'no'}
  assert ''.join(client.stream(endpoint, 'a', request, FILES)) in texts


@pytest.mark.parametrize('temperature', [0.0, 1e-38, 1.0])
def test_chunks_are_one_call(endpoint, temperature):
  request = Request(LIMIT, temperature=temperature, seed=3, grammar='plan')
  (answer,) = client.generate(endpoint, ['ab'], request)
  assert fits('plan', answer.text)
  pieces = client.stream(endpoint, 'ab', request, FILES)
  assert ''.join(pieces) == answer.text


def rows(names, seed=3):
  return [
    chunks.Row(
      np.array([1, 2, 3], np.int32),
      Request(LIMIT, temperature=1.0, seed=seed + i, grammar=name),
      n_alternatives=1,
    )
    for i, name in enumerate(names)
  ]


def finish(endpoint, batch):
  taken = [[] for _ in batch]
  while going := [i for i, row in enumerate(batch) if not row.done]:
    found = chunks.predict(endpoint, [batch[i] for i in going], 8)
    for i, chunk in zip(going, found, strict=True):
      taken[i] += chunk.tokens.tolist()
  return taken


def test_rows_with_and_without_a_grammar_share_a_batch(endpoint):
  names = ['number', '', 'plan', 'yes', '']
  together = finish(endpoint, rows(names))
  for i, name in enumerate(names):
    assert finish(endpoint, rows([name], 3 + i)) == [together[i]]
    if name:
      assert fits(name, CHARACTERS.decode(together[i]))
  assert len(together[1]) == LIMIT


def test_an_export_without_stays_as_it_was(model):
  plain, more = (
    signature_inputs(model.config, grammars=has, attention=False)
    for has in (False, True)
  )
  assert plain == {n: i for n, i in more.items() if 'grammar' not in n}
  with pytest.raises(UsageError, match='was exported without grammars'):
    bare = types.SimpleNamespace(signatures=lambda: plain)
    chunks.predict(bare, rows(['yes']))


@pytest.mark.parametrize(
  'change, said',
  [
    ({'grammar': 'nmber'}, 'grammar=nmber in row 0: it must be one of number'),
    ({'min_new_tokens': 1}, 'min_new_tokens=1 in row 0: it must be left out'),
    ({'grammar_state': 10**6}, 'grammar_state=1000000 in row 0'),
    ({'grammar_state': 1}, 'or the next_grammar_state of the same grammar'),
    ({'num_left': 3}, 'num_left=3 in row 0: it must be max_new_tokens or'),
    ({'stop': [['a']]}, 'stop=1 in row 0: it must be left out with a grammar'),
    ({'num_left': 4, 'grammar': 'plan'}, 'num_left=4 in row 0: it must be 11'),
  ],
)
def test_inputs_that_make_no_sense_are_named(endpoint, change, said):
  (row,) = rows(['number'])
  inputs = row.options(4, 2) | row.grammar_inputs()
  inputs |= {'ids': row.ids[None], 'stop': np.array([['']], object)}
  for key, value in change.items():
    inputs[key] = np.array(value).reshape(inputs[key].shape)
  with pytest.raises(EndpointError) as error:
    endpoint.predict('generate_chunk_grammar', inputs)
  assert said in str(error.value)


@pytest.mark.parametrize(
  'more', [{'stop': ['a']}, {'banned': ['a']}, {'min_new_tokens': 1}]
)
def test_what_would_end_or_hold_a_text_is_refused(more):
  with pytest.raises(UsageError, match='says itself where a text ends'):
    Request(grammar='yes', **more).check()
  with pytest.raises(UsageError, match='works without num_beams, grammar'):
    Request(grammar='yes', speculate=4, temperature=0).check()


def test_beams_fit_and_a_bias_forbids_nothing_that_must_come(live):
  request = Request(14, num_beams=3, grammar='plan')
  assert all(fits('plan', text) for text in live(['a', 'b'], request))
  hidden = dict.fromkeys(range(95), -np.inf)
  request = Request(14, temperature=1.0, grammar='plan', logit_bias=hidden)
  assert fits('plan', *live(['a'], request))
  with pytest.raises(UsageError, match="unknown grammar 'x'"):
    live(['a'], Request(grammar='x'))


def test_a_limit_below_what_a_grammar_needs(model):
  with pytest.raises(UsageError, match='grammar email has 7 tokens; raise'):
    Server(model.params, model.config, CHARACTERS, 5, grammars=GRAMMARS)


def test_an_end_of_text_comes_only_behind_a_whole_answer():
  words = ['1', '23', '-', 'a', '<|unk|>', '<|eos|>']
  config = GPTConfig(6, 16, 8, 2, 1, drop_rate=0.0, init_std=0.2)
  tokenizer = WordTokenizer(words)
  live = Generator(
    GPT(config).params,
    config,
    tokenizer,
    'graph',
    grammars=[Grammar('n', '-?[0-9]{2,5}')],
  )
  request = Request(20, temperature=1.0, grammar='n')
  texts = live(['a'] * 12, request)
  assert all(re.fullmatch('-?[0-9]{2,5}', text) for text in texts)
  assert {len(text.lstrip('-')) for text in texts} > {2, 5}


LISTED = {
  g.name: g.describe() | {'least_tokens': 11 if g.name == 'plan' else 1}
  for g in GRAMMARS
}


def ask(**fields):
  body = {'model': 'm', 'messages': [{'role': 'user', 'content': 'a'}]}
  return protocol.chat(body | fields, 100, LISTED).request.grammar


def form(name, **more):
  described = {'name': name, 'strict': True, **more}
  return {'type': 'json_schema', 'json_schema': described}


def test_the_api_names_grammars_by_their_schema():
  same = dict(reversed(PLAN.items()))
  assert ask(response_format=form('plan', schema=same)) == 'plan'
  assert ask(response_format=form('plan')) == 'plan'
  assert ask(grammar='yes') == ask(grammar='yes', response_format=None) == 'yes'
  assert ask(response_format={'type': 'text'}) == ask() == ''


@pytest.mark.parametrize(
  'fields, said',
  [
    ({'grammar': 'x'}, "grammar: unknown name 'x'; this model has number, yes"),
    ({'response_format': form('x')}, "response_format: unknown name 'x'"),
    ({'response_format': form('plan', schema=LIST)}, 'is not that of'),
    ({'response_format': {'type': 'json_object'}}, 'give type=text, or'),
    ({'grammar': 'yes', 'response_format': form('plan')}, 'give one of them'),
    ({'grammar': 'yes', 'stop': 'a'}, 'leave out stop'),
    ({'grammar': 'plan', 'max_tokens': 5}, "'plan' needs 11 or more"),
  ],
)
def test_a_form_that_is_not_offered_is_refused(fields, said):
  with pytest.raises(HttpError) as error:
    ask(**fields)
  assert error.value.status == 400 and said in str(error.value.body())


@pytest.mark.parametrize(
  'name, n, reason', [('yes', 20, 'stop'), ('number', 4, 'length')]
)
def test_a_finished_form_is_a_stop(endpoint, name, n, reason):
  (row,) = rows([name])
  row.request = replace(row.request, max_new_tokens=n)
  pieces = []
  job = Job(row, CHARACTERS, pieces.append)
  while not job.finished:
    job.take(*chunks.predict(endpoint, [row], 8))
  assert fits(name, ''.join(piece.text for piece in pieces))
  assert pieces[-1].finish_reason == reason


@pytest.fixture(scope='module', params=['embedded', 'grpc', 'rest'])
def door(request, saved):
  """The `openai` client, with each kind of endpoint behind the server."""
  pytest.importorskip('starlette', reason='no starlette')
  openai = pytest.importorskip('openai', reason='no openai')
  from http_server_fixtures import MODEL, serve, template

  with contextlib.ExitStack() as stack:
    asked = saved[1]
    if request.param != 'embedded':
      pytest.importorskip('tensorflow_serving', reason='no such package')
      from serving_emulator import emulator

      target = getattr(stack.enter_context(emulator(*saved)), request.param)
      asked = client.connect(target, MODEL, request.param)
    more = dict(template=template, grammars=LISTED, stop=('e',))
    known = dict(tokenizer=CHARACTERS, context_length=16)
    served = stack.enter_context(serve(asked, **known, **more))
    yield openai.OpenAI(base_url=f'{served.url}/v1', api_key='-')


ASK = dict(model='shakespeare', max_tokens=LIMIT, seed=3)


@pytest.mark.parametrize('stream', [False, True])
def test_a_client_of_the_api_gets_the_schema_that_it_asks_for(
  door, endpoint, stream
):
  request = Request(LIMIT, temperature=1.0, seed=3, grammar='plan')
  (wanted,) = client.generate(endpoint, ['ab'], request)
  found = door.chat.completions.create(
    messages=[{'role': 'user', 'content': 'ab'}],
    response_format=form('plan', schema=PLAN),
    stream=stream,
    **ASK,
  )
  if stream:
    choices = [event.choices[0] for event in found]
    text = ''.join(choice.delta.content for choice in choices)
  else:
    choices = found.choices
    text = choices[0].message.content
  assert text == wanted.text and fits('plan', text)
  assert choices[-1].finish_reason == 'stop'


def test_answers_under_a_grammar_have_seeds_and_log_probs(door, endpoint):
  found = door.completions.create(
    prompt='ab', n=3, logprobs=1, extra_body={'grammar': 'number'}, **ASK
  )
  request = Request(LIMIT, temperature=1.0, seed=3, grammar='number')
  wanted = client.generate(endpoint, ['ab'] * 3, request)
  for choice, answer in zip(found.choices, wanted, strict=True):
    assert choice.text == answer.text and fits('number', answer.text)
    total = sum(choice.logprobs.token_logprobs)
    np.testing.assert_allclose(total, answer.log_prob, atol=1e-3)
  assert len({answer.text for answer in wanted}) > 1


def test_a_grammar_that_is_not_there_is_refused_at_the_door(door):
  import openai

  with pytest.raises(openai.BadRequestError, match='this model has number'):
    door.completions.create(prompt='a', extra_body={'grammar': 'x'}, **ASK)


def test_warm_up_asks_for_grammars_too(server, endpoint, tmp_path):
  pytest.importorskip('tensorflow_serving', reason='no such package')
  warmup.write(tmp_path, 'm', 'a', [1, 2], server.least_tokens())
  replayed = []
  for name, inputs in grpc_endpoint.warmup_records(tmp_path / warmup.FILE):
    if name in endpoint.signatures():
      answer = endpoint.predict(name, inputs)
      replayed.append((name, len(answer['tokens'])))
  names = 'generate_chunk', 'generate_grammar', 'generate_chunk_grammar'
  assert replayed == [(name, n) for name in names for n in (1, 2)]


def test_serve_check_reads_the_answers(model, endpoint, monkeypatch):
  listed = {k: LISTED[k] for k in ('number', 'list')}
  how = dict(grammars=listed, max_new_tokens=LIMIT)
  files = ModelFiles(None, CHARACTERS, 16, **how)
  prompts = [b'a', b'bc', b'd']
  tokens = np.zeros([3, 1], np.int32)
  under_test = ModelUnderTest(
    endpoint, prompts, tokens, np.ones([3], np.int32), 8, files
  )
  assert grammar_checks.grammars(under_test) == '2 grammars'
  trained = LoadedModel(model.config, model.params, CHARACTERS)
  referred = files._replace(reference=trained)
  live = under_test._replace(files=referred)
  assert grammar_checks.live_grammars(live) == '2 grammars'
  with monkeypatch.context() as patch:
    other = lambda *_, **__: lambda *_: ['12'] * 3  # noqa: E731
    patch.setattr(grammar_checks, 'Generator', other)
    with pytest.raises(CheckError, match='grammar number: row 0 is not'):
      grammar_checks.live_grammars(live)
  listed['number'] = LISTED['number'] | {'regex': 'x'}
  with pytest.raises(CheckError, match='grammar number: row 0 is'):
    grammar_checks.grammars(under_test)


def test_the_documented_request_is_answered(endpoint, monkeypatch, capsys):
  """Without its connection, which other tests cover."""
  page = (helpers.ROOT / 'docs/grammars.md').read_text('utf-8')
  [code] = re.findall(r'run by: .*\n```python\n(.*?)```', page, re.DOTALL)
  monkeypatch.setattr(client, 'connect', lambda address, model: endpoint)
  exec(code, {})
  plan = json.loads(capsys.readouterr().out)
  assert {'name'} <= set(plan) <= {'name', 'n', 'day'}
