"""Generation in chunks equals generation in one call."""

import dataclasses
import re

import numpy as np
import pytest
import tensorflow as tf

from minigpt import tokenizers
from minigpt.errors import UsageError
from minigpt.generation import decode
from minigpt.generation.detokenizer import Detokenizer
from minigpt.generation.grammar import Grammar
from minigpt.generation.logits_processors import select_rules
from minigpt.generation.request import Request
from minigpt.generation.sampling import select_sampling
from minigpt.model.transformer import gpt
from minigpt.serving import chunks, sampling_inputs
from minigpt.serving.endpoint import EndpointError
from minigpt.serving.signatures import Server

LONG = 40  # Tokens: several windows of 12.
REQUESTS = [
  Request(LONG, temperature=0.0),
  Request(LONG, temperature=1.0, seed=3, repetition_penalty=1.5),
  Request(
    LONG, temperature=1.3, seed=2**40, top_k=7, min_new_tokens=20, min_p=0.01
  ),
]
PROMPTS = [[1, 2, 3], list(range(11)), [5, 4, 3, 2, 1] * 4]


def rows(**more):
  return [
    chunks.Row(np.array(ids, np.int32), request, **more)
    for ids, request in zip(PROMPTS, REQUESTS, strict=True)
  ]


@pytest.fixture(scope='module')
def whole(model):
  """Returns tokens and log p of each row, [LONG] each, from one loop."""
  generate = tf.function(autograph=False)(decode.generate)
  context = model.config.context_length
  found = []
  for ids, request in zip(PROMPTS, REQUESTS, strict=True):
    kept = tf.constant([ids[-context:]])
    options = request.options(1)
    state = decode.start(
      kept, tf.constant([kept.shape[1]]), model.params, model.config, context
    )
    sampled = generate(
      state,
      LONG,
      LONG,
      select_sampling(options),
      model.params,
      model.config,
      rules=select_rules(options),
    )[1]
    found.append([part.numpy()[0] for part in (sampled[0], sampled[1])])
  return found


@pytest.mark.parametrize('size', [1, 4, 9])
def test_chunks_are_one_call_even_beyond_the_context(session, whole, size):
  together = rows()
  parts = [[] for _ in together]
  while not all(row.done for row in together):
    for part, chunk in zip(
      parts, chunks.predict(session, together, size), strict=True
    ):
      part.append(chunk)
  for part, (tokens, log_probs) in zip(parts, whole, strict=True):
    found = np.concatenate([chunk.tokens for chunk in part])
    assert found.tolist() == tokens.tolist()
    np.testing.assert_allclose(
      np.concatenate([chunk.log_probs for chunk in part]), log_probs, atol=1e-4
    )


def test_rows_join_and_leave_at_any_chunk(session, whole):
  first, second, third = rows()
  found = {id(row): [] for row in (first, second, third)}
  for batch, size in (
    ([first], 2),
    ([first, second], 5),
    ([third, second, first], 9),
    ([third], 3),
    ([second, third], 1),
  ):
    for row, chunk in zip(
      batch, chunks.predict(session, batch, size), strict=True
    ):
      found[id(row)] += chunk.tokens.tolist()
  for row, (tokens, _) in zip((first, second, third), whole, strict=True):
    assert found[id(row)] == tokens[: row.n_sampled].tolist()


def test_alternatives_are_the_most_likely_tokens_of_each_place(session, model):
  row, plain = (
    chunks.Row(np.array(PROMPTS[0], np.int32), REQUESTS[1], n) for n in (5, 0)
  )
  chunk, other = chunks.predict(session, [row, plain], 4)
  assert other.alternatives.shape == (4, 0)
  ids = [*PROMPTS[0], *chunk.tokens]
  logits = gpt(tf.constant([ids]), model.params, model.config)[0, 2:-1]
  expected = tf.nn.log_softmax(logits).numpy()
  best = np.argsort(-expected)[:, :5]
  np.testing.assert_array_equal(chunk.alternatives, best)
  np.testing.assert_allclose(
    chunk.alternative_log_probs,
    np.take_along_axis(expected, best, -1),
    atol=1e-4,
  )
  np.testing.assert_allclose(
    chunk.log_probs, expected[np.arange(4), chunk.tokens], atol=1e-4
  )


def test_a_row_ends_with_its_last_token(session):
  short = dataclasses.replace(REQUESTS[0], max_new_tokens=3)
  (row,) = [chunks.Row(np.array([1], np.int32), short)]
  (chunk,) = chunks.predict(session, [row], 9)
  assert row.done and len(chunk.tokens) == 3 and row.n_left == 0


@pytest.mark.parametrize(
  'name, value', [('num_sampled', -1), ('num_alternatives', 21)]
)
def test_numbers_out_of_range_are_refused_by_name(session, name, value):
  (row, *_) = rows()
  inputs = {**row.options(2, 2), 'ids': [row.ids], 'stop': [['']]}
  inputs[name] = [value]
  with pytest.raises(EndpointError, match=f'{name}={value} in row 0'):
    session.predict('generate_chunk', inputs)


def test_an_option_that_came_later_is_refused(session, monkeypatch):
  monkeypatch.setattr(sampling_inputs, 'needed_version', lambda request: 3)
  with pytest.raises(UsageError, match='after the model was exported'):
    chunks.predict(session, rows(), 1)


# Stop strings by row.


def stopping(session_rows, stops):
  return [
    dataclasses.replace(
      row, request=dataclasses.replace(row.request, stop=tuple(stop))
    )
    for row, stop in zip(session_rows, stops, strict=True)
  ]


@pytest.mark.parametrize('size', [1, 4, 9])
def test_a_stop_string_ends_its_row_wherever_chunks_are_cut(
  session, run_dir, whole, size
):
  tokenizer = tokenizers.load(run_dir / 'tokenizer.json')
  (first, _), (second, _), (third, _) = whole
  # One spans several chunks, one never occurs, one occurs at once.
  stops = [
    [tokenizer.decode(first[7:13]), 'never'],
    [],
    ['never', tokenizer.decode(third[:1])],
  ]
  together = stopping(rows(), stops)
  found = [[], [], []]
  while any(row.n_sampled < 18 and not row.done for row in together):
    active = [row for row in together if not row.done]
    for row, chunk in zip(
      active, chunks.predict(session, active, size), strict=True
    ):
      found[together.index(row)] += chunk.tokens.tolist()
  assert [row.done for row in together] == [True, False, True]
  text = Detokenizer(tokenizer, stops[0])
  n = 0
  while not text.stopped:
    text.add(first[n : n + 1])
    n += 1
  assert found[0] == first[:n].tolist() and n <= 13
  assert found[1] == second[: len(found[1])].tolist()
  assert found[2] == third[:1].tolist()


@pytest.mark.parametrize(
  'stop, said',
  [
    ([['x'] * 17], 'stop=17 in row 0: it must not exceed 16 strings'),
    ([['', 'x' * 257]], 'stop=257 in row 0: it must not exceed 256 bytes'),
  ],
)
def test_too_many_or_too_long_stops_are_refused_by_name(session, stop, said):
  (row, *_) = rows()
  inputs = {**row.options(2, 2), 'ids': [row.ids], 'stop': stop}
  with pytest.raises(EndpointError, match=said):
    session.predict('generate_chunk', inputs)


def test_what_the_signature_has_no_room_for_is_not_sent(session):
  (row,) = stopping(rows()[:1], [['x' * 257, *map(str, range(20))]])
  (chunk,) = chunks.predict(session, [row], 2)
  assert len(chunk.tokens) == 2


@pytest.mark.parametrize(
  ('n_rows', 'compiled', 'n_sent'),
  [(3, (), 3), (1, (1, 2, 8), 1), (3, (1, 2, 8), 8), (9, (1, 2, 8), 16)],
)
def test_a_batch_has_a_size_that_is_compiled(n_rows, compiled, n_sent):
  assert chunks.batch_size(n_rows, compiled) == n_sent


class Noting:
  """An endpoint that records the shapes of `ids` and `stop`."""

  def __init__(self, endpoint):
    self._endpoint, self.shapes = endpoint, []

  def signatures(self):
    return self._endpoint.signatures()

  def predict(self, name, inputs):
    self.shapes.append((inputs['ids'].shape[0], inputs['stop'].shape))
    return self._endpoint.predict(name, inputs)


def test_rows_get_the_same_in_a_batch_that_is_filled_up(session, whole):
  noting, asked = Noting(session), stopping(rows(), [['!!', '@@']] * 3)
  found = chunks.predict(noting, asked, 5, (2, 4))
  assert noting.shapes == [(4, (4, 16))]
  for chunk, (tokens, _) in zip(found, whole, strict=True):
    np.testing.assert_array_equal(chunk.tokens, tokens[:5])


def test_every_size_of_a_compiled_batch_is_warmed_up(session):
  noting = Noting(session)
  chunks.warm_up(noting, 3, (2,))
  assert noting.shapes == [(2, (2, 16)), (4, (4, 16))]
  plain = Noting(session)
  chunks.warm_up(plain, 3, ())
  assert plain.shapes == [(1, (1, 1))]


def test_the_xla_twin_gives_the_same_chunks_and_keeps_to_a_grammar(
  model, run_dir, whole
):
  tokenizer = tokenizers.load(run_dir / 'tokenizer.json')
  form = Grammar('form', 'a(bc|d){1,3}')
  server = Server(
    model.params, model.config, tokenizer, 9, xla=True, grammars=[form]
  )
  row, under = rows()[1], rows()[1]
  under.request = dataclasses.replace(under.request, grammar='form')
  stop = tokenizer.decode(whole[1][0][5:7])
  each = [r.options(9, 2) | r.grammar_inputs() for r in (row, under)]
  inputs = {key: np.concatenate([one[key] for one in each]) for key in each[0]}
  inputs |= {'ids': [row.ids] * 2, 'stop': [[stop], ['']]}
  answer = server.generate_chunk_grammar(
    **{key: tf.constant(value) for key, value in inputs.items()}
  )
  n, n_under = answer['num_tokens'].numpy()
  assert answer['done'][0] and n <= 7
  assert answer['tokens'][0, :n].numpy().tolist() == whole[1][0][:n].tolist()
  text = tokenizer.decode(answer['tokens'][1, :n_under].numpy())
  assert re.fullmatch(form.regex, text) and answer['done'][1]
