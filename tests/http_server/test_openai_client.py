"""The `openai` client, with every kind of endpoint behind the server."""

import dataclasses

import numpy as np
import openai
import pytest
from http_server_fixtures import MODEL, serve, template

from minigpt.generation.request import Request
from minigpt.serving import client as serving_client

pytest.importorskip('tensorflow_serving', reason='no tensorflow-serving-api')
from serving_emulator import emulator

HOW = Request(9, 1.0, seed=3)
"""What `client.generate` is asked for, too; the same as ASK."""
ASK = dict(model=MODEL, max_tokens=9, seed=3)


@pytest.fixture(scope='module', params=['embedded', 'grpc', 'rest'])
def client(request, export_dir, session, embedded):
  if request.param == 'embedded':
    yield openai.OpenAI(base_url=f'{embedded.url}/v1', api_key='-')
    return
  with emulator(export_dir, session) as server:
    target = getattr(server, request.param)
    endpoint = serving_client.connect(target, MODEL, request.param)
    with serve(endpoint, template=template) as served:
      yield openai.OpenAI(base_url=f'{served.url}/v1', api_key='-')


def expected(session, prompt, request=HOW):
  return serving_client.generate(session, [prompt], request)[0]


def test_text_is_what_the_model_writes(client, session):
  answer = client.completions.create(prompt='abc', logprobs=2, **ASK)
  whole = expected(session, 'abc')
  (choice,) = answer.choices
  assert choice.text == whole.text
  assert choice.finish_reason == 'length'
  assert answer.usage.prompt_tokens == 3
  assert answer.usage.completion_tokens == 9
  assert ''.join(choice.logprobs.tokens) == whole.text
  assert choice.logprobs.text_offset == list(range(9))
  np.testing.assert_allclose(
    sum(choice.logprobs.token_logprobs), whole.log_prob, atol=1e-3
  )
  for top, chosen in zip(
    choice.logprobs.top_logprobs, choice.logprobs.token_logprobs, strict=True
  ):
    assert len(top) == 2 and max(top.values()) >= chosen - 1e-6


def test_a_stream_has_the_same_text_in_several_pieces(client, session):
  events = list(
    client.completions.create(
      prompt='abc',
      stream=True,
      stream_options={'include_usage': True},
      **ASK,
    )
  )
  *texts, last = events
  assert ''.join(event.choices[0].text for event in texts) == (
    expected(session, 'abc').text
  )
  assert len(texts) == 2 and len(texts[0].choices[0].text) == 1
  assert [event.choices[0].finish_reason for event in texts] == [None, 'length']
  assert last.usage.completion_tokens == 9 and not last.choices


def test_answers_of_one_request_have_seeds_of_their_own(client, session):
  answer = client.completions.create(prompt=['ab', [3, 4]], n=2, **ASK)
  wanted = [
    expected(session, prompt, dataclasses.replace(HOW, seed=3 + i)).text
    for i, prompt in enumerate(['ab', 'ab', 'ab', 'ab'])
  ]
  assert [choice.text for choice in answer.choices] == wanted
  assert len(set(wanted)) > 1
  assert [choice.index for choice in answer.choices] == [0, 1, 2, 3]


@pytest.mark.parametrize('stream', [False, True])
def test_a_text_ends_before_its_stop_string(client, session, stream):
  whole = expected(session, 'abc').text
  stop = whole[4:6]
  found = client.completions.create(
    prompt='abc', stop=['zz', stop], logprobs=0, stream=stream, **ASK
  )
  choices = [each.choices[0] for each in (found if stream else [found])]
  text = whole[: whole.index(stop)]
  assert ''.join(choice.text for choice in choices) == text
  tokens = [token for choice in choices for token in choice.logprobs.tokens]
  assert ''.join(tokens) == text
  assert choices[-1].finish_reason == 'stop'
  if not stream:
    assert found.usage.completion_tokens == len(text) + len(stop)


def test_a_chat_is_its_template(client, session):
  messages = [
    {'role': 'user', 'content': 'a'},
    {'role': 'assistant', 'content': [{'type': 'text', 'text': 'b'}]},
    {'role': 'user', 'content': 'c'},
  ]
  whole = expected(session, 'abc')
  answer = client.chat.completions.create(
    messages=messages, logprobs=True, top_logprobs=3, **ASK
  )
  (choice,) = answer.choices
  assert choice.message.content == whole.text
  assert choice.message.role == 'assistant'
  said = choice.logprobs.content
  assert b''.join(bytes(each.bytes) for each in said).decode() == whole.text
  assert all(len(each.top_logprobs) == 3 for each in said)
  np.testing.assert_allclose(
    sum(each.logprob for each in said), whole.log_prob, atol=1e-3
  )
  events = client.chat.completions.create(messages=messages, stream=True, **ASK)
  deltas = [event.choices[0].delta for event in events]
  assert ''.join(delta.content for delta in deltas) == whole.text
  assert [delta.role for delta in deltas] == ['assistant', None]


def test_embeddings_are_those_of_the_signature(client, session):
  texts = ['abc', 'd']
  vectors = session.predict('embed', {'text': texts})['embedding']
  for form in ('float', openai.omit):  # The client requests base64 by default.
    answer = client.embeddings.create(
      model=MODEL, input=texts, encoding_format=form
    )
    found = [each.embedding for each in answer.data]
    np.testing.assert_allclose(found, vectors, rtol=1e-6)
    assert answer.usage.total_tokens == 4


def test_the_model_is_listed(client):
  assert [model.id for model in client.models.list()] == [MODEL]
  assert client.models.retrieve(MODEL).owned_by == 'minigpt'
  with pytest.raises(openai.NotFoundError):
    client.models.retrieve('hamlet')


def test_errors_are_those_that_the_client_knows(client):
  with pytest.raises(openai.NotFoundError, match='hamlet'):
    client.completions.create(model='hamlet', prompt='abc')
  with pytest.raises(openai.BadRequestError) as caught:
    client.completions.create(prompt='aZ', **ASK)
  assert caught.value.param == 'prompt' and 'Z' in caught.value.message


def test_sampling_options_of_ours_are_taken(client, session):
  greedy = dataclasses.replace(HOW, temperature=0.0)
  answer = client.completions.create(
    prompt='abc', extra_body={'top_k': 1, 'min_p': 1.0}, **ASK
  )
  assert answer.choices[0].text == expected(session, 'abc', greedy).text
