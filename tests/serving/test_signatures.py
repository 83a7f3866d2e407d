"""The signatures, through the SavedModel that a server would load."""

import ctypes
import json
from pathlib import Path

import helpers
import numpy as np
import pytest
import tensorflow as tf
from tensorflow.core.protobuf import saved_model_pb2

from minigpt.generation import decode
from minigpt.generation.detokenizer import Detokenizer
from minigpt.generation.logits_processors import select_rules
from minigpt.generation.request import Request
from minigpt.generation.sampling import greedy_sampling, select_sampling
from minigpt.kernels.quantize import InOut, Quantized, quantize
from minigpt.model.hooks import capture
from minigpt.model.params import Linear, is_absent
from minigpt.model.transformer import gpt, hidden_states
from minigpt.serving.prompts import PromptReader
from minigpt.serving.signatures import Server
from minigpt.tokenizers.char import CharTokenizer
from minigpt.tokenizers.word import WordTokenizer

CHARACTERS = ''.join(sorted('\x00\n abcdefghij\u00e9\u0301\u6f22\U0001f600'))
PROMPTS = ['abc', '\u6f22', 'a\x00b\U0001f600c \u00e9de\n']
LIMIT = 20
WIDE = np.zeros([1, 2, 2, 4, 8], np.float32)  # One slot more than the keys.


@pytest.fixture(scope='module')
def tokenizer():
  return CharTokenizer(CHARACTERS)


@pytest.fixture(scope='module')
def path(model, tokenizer, tmp_path_factory):
  server = Server(model.params, model.config, tokenizer, LIMIT, attention=True)
  path = tmp_path_factory.mktemp('served') / '1'
  tf.saved_model.save(server, str(path), signatures=server.signatures())
  return path


@pytest.fixture(scope='module')
def loaded(path):
  return tf.saved_model.load(str(path))


@pytest.fixture(scope='module')
def call(loaded):
  def call(name, **inputs):
    inputs = {key: tf.constant(value) for key, value in inputs.items()}
    answer = loaded.signatures[name](**inputs)
    return {key: value.numpy() for key, value in answer.items()}

  return call


def how(n, n_new=6, temperature=0.0, top_k=0, top_p=1.0, seed=0):
  return {
    'max_new_tokens': np.full([n], n_new, np.int32),
    'temperature': np.full([n], temperature, np.float32),
    'top_k': np.full([n], top_k, np.int32),
    'top_p': np.full([n], top_p, np.float32),
    'seed': np.full([n], seed, np.int64),
    'repetition_penalty': np.ones([n], np.float32),
    'min_new_tokens': np.zeros([n], np.int32),
  }


MIXED = {
  'max_new_tokens': np.array([18, 7, 20], np.int32),
  'temperature': np.array([1.0, 0.0, 0.7], np.float32),
  'top_k': np.array([0, 0, 9], np.int32),
  'top_p': np.array([0.9, 1.0, 1.0], np.float32),
  'seed': np.array([1, 2, 2**40], np.int64),
  'repetition_penalty': np.array([1.0, 1.5, 0.5], np.float32),
  'min_new_tokens': np.array([0, 7, 3], np.int32),
}


def live(model, ids, n_new, sampling, params=None, rules=None):
  """Returns one row's tokens and log p, with the functions of training."""
  state = decode.start(
    tf.constant([ids]),
    tf.constant([len(ids)]),
    params or model.params,
    model.config,
    model.config.context_length,
  )
  p = params or model.params
  drawn = generate(state, tf.constant(n_new), sampling, p, model.config, rules)
  return drawn.tokens.numpy()[0, :n_new], drawn.log_prob.numpy()[0, :n_new]


@tf.function(autograph=False)  # Compiled, as eager operations would be slow.
def generate(state, n_new, sampling, params, config, rules):
  _, drawn = decode.generate(
    state, n_new, LIMIT, sampling, params, config, rules=rules
  )
  return drawn


def log_probs(model, ids):
  logits = gpt(tf.constant([ids]), model.params, model.config)[0]
  return tf.nn.log_softmax(logits).numpy()


def test_each_row_is_what_the_live_model_writes(call, model, tokenizer):
  answer = call('generate', prompt=PROMPTS, **MIXED)
  for i, prompt in enumerate(PROMPTS):
    n_new = MIXED['max_new_tokens'][i]
    own = {name: values[i : i + 1] for name, values in MIXED.items()}
    sampling = select_sampling(Request().options(1) | own)
    rules = select_rules(own)
    ids = tokenizer.encode(prompt)
    tokens, log_prob = live(model, ids, n_new, sampling, rules=rules)
    assert answer['num_tokens'][i] == n_new
    assert answer['tokens'][i, :n_new].tolist() == tokens.tolist()
    assert not answer['tokens'][i, n_new:].any()
    np.testing.assert_allclose(
      answer['log_prob'][i], log_prob.sum(), rtol=1e-5, atol=1e-4
    )
    assert answer['text_bytes'][i] == tokenizer.decode_bytes(tokens)
    assert answer['text'][i].decode() == tokenizer.decode(tokens)


def test_a_row_depends_neither_on_neighbours_nor_on_its_place(call):
  together = call('generate', prompt=PROMPTS, **MIXED)
  order = [2, 0, 1]
  turned = call(
    'generate',
    prompt=[PROMPTS[i] for i in order],
    **{name: value[order] for name, value in MIXED.items()},
  )
  for place, i in enumerate(order):
    alone = call(
      'generate',
      prompt=[PROMPTS[i]],
      **{name: value[i : i + 1] for name, value in MIXED.items()},
    )
    for name in ('tokens', 'num_tokens', 'text_bytes', 'text'):
      assert np.array_equal(together[name][i], alone[name][0])
      assert np.array_equal(turned[name][place], alone[name][0])
    np.testing.assert_allclose(
      together['log_prob'][i], alone['log_prob'][0], rtol=1e-5, atol=1e-4
    )


def test_minimal_signature_uses_the_usual_values(call):
  usual = how(3, LIMIT, temperature=0.8)
  expected = call('generate', prompt=PROMPTS, **usual)
  answer = call('serving_default', prompt=PROMPTS)
  assert set(answer) == {'text', 'text_bytes'}
  assert answer['text'].tolist() == expected['text'].tolist()


def test_ids_give_what_text_gives_and_padding_is_not_looked_at(call, tokenizer):
  ids = np.full([3, 11], -7, np.int32)
  lengths = [len(prompt) for prompt in PROMPTS]
  for row, prompt in zip(ids, PROMPTS, strict=True):
    row[: len(prompt)] = tokenizer.encode(prompt)
  expected = call('generate', prompt=PROMPTS, **MIXED)
  answer = call('generate_ids', ids=ids, prompt_len=lengths, **MIXED)
  assert answer['tokens'].tolist() == expected['tokens'].tolist()
  assert answer['text'].tolist() == expected['text'].tolist()


def test_a_prompt_beyond_the_context_keeps_its_end(call, config):
  n_over = 5
  long = 'abcdefghij\u00e9' * 4
  long = long[: config.context_length + n_over]
  answer = call('generate', prompt=[long, 'abc'], **how(2))
  kept = call('generate', prompt=[long[n_over:], 'abc'], **how(2))
  assert answer['num_dropped'].tolist() == [n_over, 0]
  assert kept['num_dropped'].tolist() == [0, 0]
  assert answer['tokens'].tolist() == kept['tokens'].tolist()


def test_score_is_the_live_models(call, model, tokenizer):
  texts = ['abcabc', 'a', PROMPTS[2]]
  answer = call('score', text=texts)
  for i, text in enumerate(texts):
    ids = tokenizer.encode(text)
    rows = log_probs(model, ids)[:-1]
    expected = rows[np.arange(len(ids) - 1), ids[1:]].sum()
    np.testing.assert_allclose(answer['log_prob'][i], expected, atol=1e-4)
    assert answer['num_tokens'][i] == len(ids) - 1
    mean = expected / max(len(ids) - 1, 1)
    np.testing.assert_allclose(answer['perplexity'][i], np.exp(-mean), 1e-4)


def test_score_of_a_long_text_is_that_of_its_end(call, config):
  text = ('abcdefghij' * 3)[: config.context_length + 4]
  answer = call('score', text=[text, text[3:]])
  assert answer['num_dropped'].tolist() == [3, 0]
  assert answer['num_tokens'].tolist() == [config.context_length] * 2
  assert answer['log_prob'][0] == pytest.approx(answer['log_prob'][1], 1e-5)


def test_embedding_is_the_mean_hidden_state(call, model, tokenizer):
  answer = call('embed', text=PROMPTS)['embedding']
  for row, prompt in zip(answer, PROMPTS, strict=True):
    ids = tf.constant([tokenizer.encode(prompt)])
    hidden = hidden_states(ids, model.params, model.config)[0]
    np.testing.assert_allclose(row, hidden.numpy().mean(0), atol=1e-4)


def test_next_tokens_are_the_likeliest_best_first(call, model, tokenizer):
  answer = call('next_token', prompt=PROMPTS, k=[3, 1, 20])
  for i, (prompt, k) in enumerate(zip(PROMPTS, [3, 1, 17], strict=True)):
    p = np.exp(log_probs(model, tokenizer.encode(prompt))[-1])
    best = np.argsort(-p)[:k]
    assert answer['tokens'][i].tolist() == [*best, *[-1] * (20 - k)]
    np.testing.assert_allclose(
      answer['probabilities'][i], [*p[best], *[0] * (20 - k)], atol=1e-5
    )
    texts = [tokenizer.tokens[t] for t in best] + [b''] * (20 - k)
    assert answer['text_bytes'][i].tolist() == texts


def test_steps_of_a_client_give_the_text_of_the_server(call, tokenizer):
  expected = call('generate', prompt=['abc', 'd'], **how(2, 8))['tokens']
  ids = np.array([tokenizer.encode('abc'), [*tokenizer.encode('d'), 5, 5]])
  answer = call('prefill', ids=ids.astype(np.int32), prompt_len=[3, 1])
  tokens = []
  for turn in range(8):
    tokens.append(answer['logits'].argmax(-1))
    answer = call(
      'decode_step',
      token=tokens[-1].astype(np.int32),
      position=np.array([3 + turn, 1 + turn], np.int32),
      keys=answer['keys'],
      values=answer['values'],
    )
  assert np.stack(tokens, 1).tolist() == expected[:, :8].tolist()


def test_attention_is_that_of_the_live_taps(call, model, tokenizer):
  answer = call('attention', prompt=PROMPTS)
  tokens, weights = answer['tokens'], answer['weights']
  for i, prompt in enumerate(PROMPTS):
    ids = tokenizer.encode(prompt)
    n = len(ids)
    assert tokens[i].tolist() == [*ids, *[-1] * (tokens.shape[1] - n)]
    _, seen = capture(gpt, '*.weights')(ids[None], model.params, model.config)
    live = np.stack(list(seen.values()), 1)[0]
    np.testing.assert_allclose(weights[i, :, :, :n, :n], live, atol=1e-5)
    np.testing.assert_allclose(weights[i, :, :, :n].sum(-1), 1, atol=1e-5)
    assert not weights[i, :, :, n:].any() and not weights[i, ..., n:].any()


@pytest.mark.parametrize(
  'field, row, value',
  [
    ('temperature', 0, -0.5),
    ('temperature', 1, np.nan),
    ('temperature', 1, np.inf),
    ('top_p', 0, 0),
    ('top_p', 1, 1.01),
    ('top_p', 1, np.nan),
    ('top_k', 0, -1),
    ('max_new_tokens', 1, 0),
    ('max_new_tokens', 0, LIMIT + 1),
    ('repetition_penalty', 0, 0),
    ('repetition_penalty', 1, 101),
    ('repetition_penalty', 1, np.nan),
    ('min_new_tokens', 0, -1),
    ('min_new_tokens', 1, 7),
  ],
)
def test_a_value_out_of_range_is_refused_by_name(call, field, row, value):
  values = how(2, temperature=1.0)
  values[field][row] = value
  with pytest.raises(tf.errors.InvalidArgumentError) as error:
    call('generate', prompt=['abc', 'd'], **values)
  assert f'{field}=' in str(error.value)
  assert f'in row {row}' in str(error.value)
  assert call('generate', prompt=['a'], **how(1))['num_tokens'] == [6]


@pytest.mark.parametrize(
  'prompt, said',
  [
    (b'a\xff', 'prompt: invalid UTF-8 in row 1'),
    ('aZ', 'prompt: character Z (U+005A)'),
  ],
)
def test_a_prompt_that_cannot_be_read_is_refused(call, prompt, said):
  with pytest.raises(
    tf.errors.InvalidArgumentError,
  ) as error:
    call('generate', prompt=['abc', prompt], **how(2))
  assert said in str(error.value)


@pytest.mark.parametrize(
  'name, wrong, said',
  [
    ('prefill', {'prompt_len': [0]}, 'prompt_len=0'),
    ('prefill', {'prompt_len': [4]}, 'prompt_len=4'),
    ('prefill', {'ids': [[1, 17, 3]]}, 'ids=17'),
    ('prefill', {'prompt_len': [1, 1]}, 'prompt_len and ids'),
    ('decode_step', {'token': [17]}, 'token=17'),
    ('decode_step', {'position': [12]}, 'position=12'),
    ('decode_step', {'position': [4]}, 'position=4'),
    ('decode_step', {'position': [-1]}, 'position=-1'),
    ('decode_step', {'values': WIDE}, 'values and keys must have as many'),
    ('next_token', {'prompt': ['a' * (2**20 + 1)]}, 'length of prompt=1048577'),
    ('next_token', {'k': [0]}, 'k=0'),
    ('next_token', {'k': [21]}, 'k=21'),
  ],
)
def test_faults_of_the_other_signatures(call, config, name, wrong, said):
  cache = np.zeros(
    [1, config.n_layers, config.n_heads, 3, config.head_dim], np.float32
  )
  right = {
    'prefill': {'ids': [[1, 2, 3]], 'prompt_len': [3]},
    'decode_step': dict(token=[1], position=[3], keys=cache, values=cache),
    'next_token': {'prompt': ['abc'], 'k': [1]},
  }[name]
  call(name, **right)
  with pytest.raises(tf.errors.InvalidArgumentError) as error:
    call(name, **(right | wrong))
  assert said in str(error.value)


def test_an_empty_batch_has_an_empty_answer(call):
  answer = call('generate', prompt=np.array([], object), **how(0))
  assert answer['tokens'].shape == (0, LIMIT)
  assert call('score', text=np.array([], object))['log_prob'].shape == (0,)


def functions(path):
  saved = saved_model_pb2.SavedModel.FromString(
    (path / 'saved_model.pb').read_bytes()
  )
  return saved.meta_graphs[0].graph_def.library.function


def jit_functions(path):
  return [
    function.signature.name
    for function in functions(path)
    if function.attr['_XlaMustCompile'].b
  ]


def test_nothing_in_the_graph_asks_for_xla(path):
  assert len(functions(path)) > 8
  assert jit_functions(path) == []


def test_every_tensor_has_the_batch_first(loaded):
  assert set(loaded.signatures) == {
    'serving_default',
    'generate',
    'generate_ids',
    'generate_v2',
    'generate_ids_v2',
    'generate_chunk',
    'score',
    'embed',
    'next_token',
    'prefill',
    'decode_step',
    'attention',
  }
  for function in loaded.signatures.values():
    inputs = function.structured_input_signature[1].values()
    for spec in [*inputs, *function.structured_outputs.values()]:
      assert spec.shape.rank >= 1
      assert spec.shape[0] is None


STOCK = """
import ctypes, json, sys
import tensorflow as tf
library = tf.sysconfig.get_lib() + '/libtensorflow_cc.so.2'
ctypes.CDLL(library)['_ZN10tensorflow21DisableXlaCompilationEv']()
session = tf.compat.v1.Session(graph=tf.Graph())
with session.graph.as_default():
  graph = tf.compat.v1.saved_model.loader.load(session, ['serve'], sys.argv[1])
request = json.loads(sys.argv[2])
signature = graph.signature_def['generate']
fetches = {k: signature.outputs[k].name for k in ('text', 'tokens')}
feeds = {signature.inputs[k].name: v for k, v in request.items()}
answer = session.run(fetches, feeds)
print(json.dumps([answer['tokens'].tolist(),
                  [t.decode() for t in answer['text']]]))
"""


def stock(path, inputs):
  """Runs `generate` as an unmodified server does: v1 loader, XLA off."""
  library = Path(tf.sysconfig.get_lib()) / 'libtensorflow_cc.so.2'
  try:
    ctypes.CDLL(str(library))['_ZN10tensorflow21DisableXlaCompilationEv']
  except (OSError, AttributeError):
    pytest.skip(f'{library} does not export DisableXlaCompilation')
  request = {name: np.asarray(value).tolist() for name, value in inputs.items()}
  return helpers.run('-c', STOCK, path, json.dumps(request))


def test_the_stock_server_gives_the_same_text(path, call):
  inputs = {'prompt': PROMPTS, **MIXED}
  done = stock(path, inputs)
  assert done.returncode == 0, done.stderr
  tokens, texts = json.loads(done.stdout)
  expected = call('generate', **inputs)
  assert tokens == expected['tokens'].tolist()
  assert texts == [text.decode() for text in expected['text']]


@pytest.fixture(scope='module')
def words(model):
  """A `Server` whose tokenizer has an end of text, called eagerly."""
  tokenizer = WordTokenizer([*'abcdefghijklmn ', '<|unk|>', '<|eos|>'])
  return Server(model.params, model.config, tokenizer, LIMIT)


def tensors(values):
  return {key: tf.constant(value) for key, value in values.items()}


def test_a_row_ends_at_the_end_of_text_and_the_others_go_on(words):
  end, values = 16, how(4, LIMIT, temperature=50.0)
  values['seed'] = np.arange(4)
  ids = tf.constant([[1, 2, 3], [4, 0, 0], [5, 6, 7], [8, 3, 1]])
  prompt_len = tf.constant([3, 1, 3, 3])
  answer = words.generate_ids(ids, prompt_len, **tensors(values))
  n_ended = 0
  for row, n in zip(
    answer['tokens'].numpy(), answer['num_tokens'], strict=True
  ):
    ends = np.flatnonzero(row == end)
    assert n == (ends[0] + 1 if len(ends) else LIMIT)
    n_ended += bool(len(ends))
  assert 0 < n_ended < 4
  assert not any(b'<|eos|>' in text for text in answer['text_bytes'].numpy())


def test_no_row_ends_before_its_least_number_of_tokens(words):
  values = how(4, LIMIT, temperature=50.0)
  values['seed'] = np.arange(4)
  ids, prompt_len = tf.constant([[1]] * 4), tf.ones([4], tf.int32)
  free = words.generate_ids(ids, prompt_len, **tensors(values))
  ended = free['num_tokens'].numpy()
  values['min_new_tokens'][:] = [0, LIMIT, LIMIT, LIMIT]
  held = words.generate_ids(ids, prompt_len, **tensors(values))
  assert min(ended[1:]) < LIMIT
  assert held['num_tokens'].numpy().tolist() == [ended[0], *3 * [LIMIT]]


def test_an_empty_prompt_is_the_end_of_the_text_before(words):
  values = tensors(how(2, 5))
  answer = words.generate(tf.constant(['', 'a b']), **values)
  ids = tf.constant([[16, 0, 0], [0, 14, 1]])
  expected = words.generate_ids(ids, tf.constant([1, 3]), **values)
  assert (
    answer['tokens'].numpy().tolist() == expected['tokens'].numpy().tolist()
  )


def test_an_empty_prompt_is_a_line_feed_where_texts_have_no_end(call):
  answer = call('generate', prompt=['', 'ab'], **how(2))
  expected = call('generate', prompt=['\n', 'ab'], **how(2))
  assert answer['tokens'].tolist() == expected['tokens'].tolist()
  assert call('score', text=[''])['num_tokens'] == [0]


def test_an_empty_prompt_that_nothing_stands_for_is_refused(config):
  reader = PromptReader(CharTokenizer('abc'), config, pads=False)
  with pytest.raises(
    tf.errors.InvalidArgumentError, match='length of prompt=0 in row 1'
  ):
    reader.texts(tf.constant(['a', '']), 'prompt')


@pytest.mark.parametrize('xla', [False, True])
def test_a_row_ends_at_its_first_stop(model, tokenizer, call, xla):
  """Tokens, their number and log p end with the stop's last token."""
  free = call('generate', prompt=PROMPTS, **MIXED)
  ids = free['tokens'][0]
  # The second completes first, although the first begins earlier.
  stops = tokenizer.decode(ids[5:9]), tokenizer.decode(ids[6:8])
  server = Server(model.params, model.config, tokenizer, LIMIT, stops, xla=xla)
  answer = server.generate(tf.constant(PROMPTS), **tensors(MIXED))
  ended = []
  for i, prompt in enumerate(PROMPTS):
    text = Detokenizer(tokenizer, stops)
    n = 0
    while n < MIXED['max_new_tokens'][i] and not text.stopped:
      text.add(free['tokens'][i, n : n + 1])
      n += 1
    text.finish()
    ended.append(text.stopped)
    assert answer['num_tokens'][i] == n
    assert answer['text'][i].numpy().decode() == text.text
    assert answer['tokens'][i, :n].numpy().tolist() == ids_of(free, i, n)
    assert not answer['tokens'][i, n:].numpy().any()
    own = {name: values[i : i + 1] for name, values in MIXED.items()}
    sampling = select_sampling(Request().options(1) | own)
    _, log_prob = live(
      model, tokenizer.encode(prompt), n, sampling, rules=select_rules(own)
    )
    np.testing.assert_allclose(
      answer['log_prob'][i], log_prob.sum(), rtol=1e-5, atol=1e-4
    )
  assert ended[0] and answer['num_tokens'][0] <= 8 and not all(ended)


def ids_of(answer, row, n):
  return answer['tokens'][row, :n].tolist()


def test_the_end_of_text_completes_no_stop(model, words):
  ids, prompt_len = tf.constant([[1]] * 4), tf.ones([4], tf.int32)
  values = how(4, LIMIT, temperature=50.0)
  values['seed'] = np.arange(4)
  tokenizer = WordTokenizer([*'abcdefghijklmn ', '<|unk|>', '<|eos|>'])
  stopping = Server(model.params, model.config, tokenizer, LIMIT, ('<|e', 's|'))
  free, answer = (
    server.generate_ids(ids, prompt_len, **tensors(values))
    for server in (words, stopping)
  )
  assert (free['tokens'].numpy() == 16).any()
  assert (
    free['text_bytes'].numpy().tolist() == answer['text_bytes'].numpy().tolist()
  )


@pytest.mark.parametrize(
  'weights, dtype, compiled',
  [
    ('float32', 4, True),
    ('int8', 1, True),
    ('int8', 1, False),
    ('bfloat16', 2, False),
  ],
)
def test_smaller_weights_compute_what_they_stand_for(
  model, tokenizer, weights, dtype, compiled
):
  small = quantize(model.params, weights, exported=True, compiled=compiled)
  assert isinstance(small.blocks[0].mlp.c_fc.w, InOut) == (not compiled)
  wte = tf.nest.flatten(small.wte)[0]
  assert wte.dtype.size == dtype
  assert small.blocks[1].mlp.c_fc.w.values.dtype.size == dtype
  full = expand(small)
  ids = tokenizer.encode(PROMPTS[2])
  expected = gpt(tf.constant([ids]), full, model.config)
  logits = gpt(tf.constant([ids]), small, model.config)
  np.testing.assert_allclose(logits, expected, atol=1e-4)
  exact = gpt(tf.constant([ids]), model.params, model.config)
  assert np.abs(logits - exact).max() < 0.1 * np.abs(exact).max()
  assert (weights == 'float32') or not np.array_equal(logits, exact)
  server = Server(small, model.config, tokenizer, LIMIT)
  answer = server.generate(tf.constant([PROMPTS[2]]), **tensors(how(1)))
  tokens, _ = live(model, ids, 6, greedy_sampling(1), full)
  assert answer['tokens'][0, :6].numpy().tolist() == tokens.tolist()


def expand(tree):
  """Dequantizes a tree by hand."""
  if isinstance(tree, Quantized):
    values = tf.cast(tree.values, tf.float32)
    if isinstance(tree, InOut):
      values = tf.transpose(values)
    return values if is_absent(tree.scale) else values * tree.scale[:, None]
  if isinstance(tree, Linear):
    return tree._replace(w=tf.transpose(expand(tree.w)))
  if isinstance(tree, tuple):
    parts = [expand(part) for part in tree]
    return tree._make(parts) if hasattr(tree, '_make') else tuple(parts)
  return tree


def test_int8_rounds_to_half_a_level_of_each_channel(model):
  w = model.params.blocks[0].mlp.c_fc.w.numpy()
  small = quantize(model.params, 'int8').blocks[0].mlp.c_fc.w
  values, scale = small.values.numpy(), small.scale.numpy()
  np.testing.assert_allclose(scale, np.abs(w).max(0) / 127, rtol=1e-6)
  assert (np.abs(values.T * scale - w) <= scale / 2 * 1.001).all()
