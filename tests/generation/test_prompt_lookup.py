"""Prompt lookup gives the text of greedy decoding in fewer steps."""

import dataclasses
import functools

import numpy as np
import pytest
import tensorflow as tf

from minigpt.compiler import jit
from minigpt.config import GPTConfig
from minigpt.generation import decode, prompt_lookup, sampling
from minigpt.model.transformer import GPT

LONGEST = 40
PROMPTS = [[1, 2, 3], [4], [5, 6, 7, 8, 5, 6, 7, 8, 5], [3, 3, 3, 3]]
CONFIG = GPTConfig(
  vocab_size=17,
  context_length=32,
  emb_dim=16,
  n_heads=2,
  n_layers=1,
  drop_rate=0.0,
  init_std=0.2,
)


@tf.function(autograph=False)
def begin(prompts, length, room, model):
  return decode.start(
    prompts, length, model.params, model.config, room.shape[0]
  )


@tf.function(autograph=False)
def plain(state, n_new, model, stop_token):
  greedy = sampling.greedy_sampling(len(PROMPTS))
  return decode.generate(
    state, n_new, LONGEST, greedy, model.params, model.config, stop_token
  )


@functools.partial(jit.compiled, mode='graph')  # test_completion: xla
def speculative(state, n_new, model, stop_token, drafted):
  return prompt_lookup.generate(
    state,
    n_new,
    LONGEST,
    drafted.shape[0],
    model.params,
    model.config,
    stop_token,
  )


def start(model, n_slots=None):
  lengths = np.array(list(map(len, PROMPTS)), np.int32)
  padded = np.full([len(PROMPTS), max(lengths)], 9, np.int32)
  for row, prompt in zip(padded, PROMPTS, strict=True):
    row[: len(prompt)] = prompt
  room = tf.zeros([n_slots or model.config.context_length, 0])
  return begin(padded, lengths, room, model)


def check_same(found, wanted):
  """Compares tokens, their probabilities, and the state of generation."""
  (state, sampled), (plain_state, plain_sampled) = found, wanted
  np.testing.assert_array_equal(sampled.tokens, plain_sampled.tokens)
  np.testing.assert_allclose(
    sampled.log_prob, plain_sampled.log_prob, 1e-3, 1e-4
  )
  for name in ('length', 'n_sampled', 'done'):
    a, b = getattr(state, name), getattr(plain_state, name)
    np.testing.assert_array_equal(a, b, name)
  for a, b, n in zip(
    state.window.numpy(), plain_state.window.numpy(), state.length, strict=True
  ):
    np.testing.assert_array_equal(a[:n], b[:n])


@pytest.fixture(scope='module', params=[3, 4])
def any_model(request):
  return GPT(CONFIG, seed=request.param)


@pytest.fixture(scope='module')
def free(any_model):
  """40 tokens of plain greedy decoding, past the context of 32."""
  return plain(start(any_model), tf.constant(LONGEST), any_model, None)


@pytest.mark.parametrize('n_drafted', [1, 5])
def test_the_tokens_are_those_of_plain_decoding(any_model, free, n_drafted):
  *found, tally = speculative(
    start(any_model),
    tf.constant(LONGEST),
    any_model,
    None,
    tf.zeros([n_drafted, 0]),
  )
  check_same(found, free)
  assert tally.n_accepted.numpy().sum() > 0
  assert (tally.n_accepted <= tally.n_drafted).numpy().all()


def test_stop_tokens_and_limits_of_rows_are_kept(any_model, free):
  """The stop token occurs within drafts, and the limits cut them."""
  stop = int(free[1].tokens[0, 5])
  n_new = tf.constant([40, 3, 17, 0])
  wanted = plain(start(any_model), n_new, any_model, stop)
  *found, _ = speculative(
    start(any_model), n_new, any_model, stop, tf.zeros([5, 0])
  )
  assert found[0].done.numpy().any() and not found[0].done.numpy().all()
  check_same(found, wanted)


def test_going_on_in_parts_equals_going_on_at_once(any_model, free):
  """Also with few slots, beyond which no draft may reach."""
  state, parts = start(any_model, n_slots=20), []
  for n_new in (4, 7):
    state, sampled, _ = speculative(
      state, tf.constant(n_new), any_model, None, tf.zeros([5, 0])
    )
    parts.append(sampled.tokens[:, :n_new])
  np.testing.assert_array_equal(tf.concat(parts, 1), free[1].tokens[:, :11])


def test_a_text_that_repeats_itself_takes_few_steps():
  """A model that writes 0 1 2 0 1 2 ..., with any blocks."""
  config = dataclasses.replace(CONFIG, n_layers=1, tie_embeddings=False)
  model = GPT(config)
  for leaf in tf.nest.flatten((model.params.blocks, model.params.wpe)):
    leaf.assign(tf.zeros_like(leaf))
  table = np.eye(17, 16, dtype=np.float32)
  model.params.wte.assign(10 * table)
  model.params.head.assign(table[[2, 0, 1, *range(3, 17)]])
  window = tf.pad(tf.constant([[0, 1, 2, 0, 1]]), [[0, 0], [0, 27]])
  state = decode.start(
    window[:, :5], tf.constant([5]), model.params, config, 32
  )
  _, sampled, tally = prompt_lookup.generate(
    state, tf.constant(11), 11, 4, model.params, config
  )
  assert sampled.tokens.numpy().tolist() == [[2, 0, 1, 2, 0, 1, 2, 0, 1, 2, 0]]
  assert tally.n_steps == 3  # 5 + 5 + 1
  assert tally.n_drafted.numpy().tolist() == [12]
  assert tally.n_accepted.numpy().tolist() == [8]


def test_a_draft_is_what_followed_the_longest_and_last_occurrence():
  windows = [
    [1, 2, 3, 7, 1, 2, 4, 8, 5, 1, 2, 3],  # 1 2 3 once, 2 of them not before 3
    [1, 2, 6, 1, 2, 5, 1, 2, 0, 0, 0, 0],  # two of the same length: the last
    [4, 9, 9, 9, 0, 0, 0, 0, 0, 0, 0, 0],  # meets its own end: 9 again
    [1, 2, 3, 4, 5, 3, 0, 0, 0, 0, 0, 0],  # one token alone
    [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0],  # slots beyond the length
  ]
  length = tf.constant([12, 8, 4, 6, 1])
  tokens, found = prompt_lookup.look_up(tf.constant(windows), length, 4)
  assert tokens.numpy()[:3].tolist() == [
    [7, 1, 2, 4],
    [5, 1, 2, 5],
    [9, 9, 9, 9],
  ]
  assert found.numpy().tolist() == [True, True, True, False, False]
