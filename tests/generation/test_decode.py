import numpy as np
import pytest
import tensorflow as tf

from minigpt.generation import decode
from minigpt.generation.sampling import (
  Sampling,
  greedy_sampling,
  make_sampling,
)
from minigpt.model.transformer import gpt

LONGEST = 30


@tf.function(autograph=False)  # Compiled, as eager operations would be slow.
def generate(state, n_new, how, model, stop_token):
  return decode.generate(
    state, n_new, LONGEST, how, model.params, model.config, stop_token
  )


def go_on(state, n_new, how, model, stop_token=None):
  state, sampled = generate(state, tf.constant(n_new), how, model, stop_token)
  return (
    state,
    sampled.tokens.numpy()[:, :n_new],
    sampled.log_prob.numpy()[:, :n_new],
  )


def run(model, prompts, n_new, how, n_slots=None, stop_token=None):
  config = model.config
  lengths = np.array(list(map(len, prompts)), np.int32)
  padded = np.full([len(prompts), max(lengths)], 9, np.int32)
  for row, prompt in zip(padded, prompts, strict=True):
    row[: len(prompt)] = prompt
  state = decode.start(
    tf.constant(padded),
    tf.constant(lengths),
    model.params,
    config,
    n_slots or config.context_length,
  )
  return go_on(state, n_new, how, model, stop_token)


def uncached(model, prompt, n_new):
  """Generates greedily with full forward passes over the window."""
  context = model.config.context_length
  window, new = list(prompt), []
  for _ in range(n_new):
    logits = gpt(tf.constant([window]), model.params, model.config)[0, -1]
    new.append(int(np.argmax(logits)))
    if len(window) == context:
      window = window[context - context // 2 :]
    window.append(new[-1])
  return new


PROMPTS = [[1, 2, 3], [4], [5, 6, 7, 8, 1, 2, 3, 4, 5]]


def test_cached_greedy_equals_full_forward_also_past_the_context(model):
  _, tokens, _ = run(model, PROMPTS, 30, greedy_sampling(3))
  for row, prompt in zip(tokens, PROMPTS, strict=True):
    assert row.tolist() == uncached(model, prompt, 30)


@pytest.mark.parametrize('temperature', [0.0, 1.0])
def test_a_row_does_not_depend_on_its_neighbours(model, temperature):
  how = make_sampling(
    3, temperature=temperature, top_k=9, top_p=0.9, seed=tf.range(3)
  )
  _, together, log_probs = run(model, PROMPTS, 20, how)
  for i, prompt in enumerate(PROMPTS):
    alone = Sampling(*(part[i : i + 1] for part in how))
    _, tokens, log_prob = run(model, [prompt], 20, alone)
    assert tokens[0].tolist() == together[i].tolist()
    np.testing.assert_allclose(log_prob[0], log_probs[i], rtol=1e-3, atol=1e-4)


def test_fewer_slots_give_the_same_text(model):
  _, roomy, _ = run(model, [[1, 2, 3]], 6, greedy_sampling(1))
  _, tight, _ = run(model, [[1, 2, 3]], 6, greedy_sampling(1), n_slots=9)
  assert tight.tolist() == roomy.tolist()


def test_log_probs_are_the_models(model):
  _, tokens, log_prob = run(
    model, [[1, 2, 3]], 5, make_sampling(1, temperature=1.3)
  )
  text = [1, 2, 3, *tokens[0]]
  logits = gpt(tf.constant([text]), model.params, model.config)[0]
  expected = np.array(tf.nn.log_softmax(logits))[range(2, 7), tokens[0]]
  np.testing.assert_allclose(log_prob[0], expected, rtol=1e-4, atol=1e-5)


def test_a_row_stops_at_its_stop_token_and_the_others_go_on(model):
  _, free, _ = run(model, PROMPTS, 8, greedy_sampling(3))
  stop = int(free[0, 2])
  state, tokens, log_prob = run(
    model, PROMPTS, 8, greedy_sampling(3), stop_token=stop
  )
  for row, expected in zip(tokens, free.tolist(), strict=True):
    end = expected.index(stop) + 1 if stop in expected else 8
    assert row.tolist() == expected[:end] + [stop] * (8 - end)
  assert state.done.numpy()[0]
  first = free[0].tolist().index(stop) + 1
  assert state.n_sampled.numpy()[0] == first
  assert (log_prob[0, first:] == 0).all()


def test_going_on_in_parts_equals_going_on_at_once(model):
  how = make_sampling(3, temperature=1.0, seed=5 + tf.range(3))
  _, at_once, _ = run(model, PROMPTS, 16, how)
  state, first, _ = run(model, PROMPTS, 7, how)
  _, rest, _ = go_on(state, 9, how, model)
  parts = np.concatenate([first, rest], 1)
  np.testing.assert_array_equal(parts, at_once)
