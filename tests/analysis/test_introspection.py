"""Inspections, compared with NumPy."""

import numpy as np
import pytest
import tensorflow as tf

from minigpt.analysis.introspection import head_habits, inspect, label
from minigpt.errors import UsageError
from minigpt.model.loss import loss_fn
from minigpt.model.transformer import gpt


@pytest.fixture
def params(prompted):
  return prompted.weights


def softmax(x):
  e = np.exp(x - x.max(-1, keepdims=True))
  return e / e.sum(-1, keepdims=True)


def normalized(x):
  return (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1)[..., None] + 1e-5)


def test_attention_is_that_of_the_paper(found, params):
  x = params.wte.numpy()[found.ids] + params.wpe.numpy()[:7]
  qkv = normalized(x) @ params.blocks[0].attn.c_attn.w.numpy()
  for head in range(2):
    q, k = (qkv[:, i + 2 * head :][:, :2] for i in (0, 4))
    scores = np.where(np.tri(7), q @ k.T / np.sqrt(2), -np.inf)
    np.testing.assert_allclose(
      found.attention[0, head], softmax(scores), atol=1e-6
    )


def test_surprise_is_the_loss_token_by_token(found, params, prompted):
  windows = tf.constant(found.ids[None])
  assert found.surprise.shape == (6,)
  np.testing.assert_allclose(
    found.surprise.mean(), loss_fn(windows, params, prompted.config), rtol=1e-6
  )


def test_the_most_likely_tokens_come_first(found, params, prompted):
  probs = softmax(gpt(found.ids[None], params, prompted.config)[0].numpy())
  best = np.argsort(-probs, -1)[:, :4]
  np.testing.assert_array_equal(found.next_tokens.ids, best)
  np.testing.assert_allclose(
    found.next_tokens.probs, np.take_along_axis(probs, best, -1), rtol=1e-5
  )


def test_norms_are_those_of_the_residual_stream(found, params):
  assert found.norms.shape == (3, 7)
  x = params.wte.numpy()[found.ids] + params.wpe.numpy()[:7]
  np.testing.assert_allclose(found.norms[0], np.linalg.norm(x, axis=-1))
  assert not np.allclose(found.norms[1], found.norms[2])


def test_habits_are_the_mean_weights_on_known_places():
  previous = np.eye(5, k=-1)
  mixed = np.zeros([5, 5])
  # The first two rows are left out.
  mixed[2:, 0], mixed[range(2, 5), range(2, 5)] = 0.75, 0.25
  mixed[1, 0] = 1
  habits = head_habits(np.array([[previous, mixed]]))
  assert habits['the previous token'].tolist() == [[1, 0]]
  assert habits['itself'].tolist() == [[0, 0.25]]
  assert habits['the first token'].tolist() == [[0, 0.75]]
  assert head_habits(np.ones([1, 1, 2, 2])) == {}


def test_the_lens_ends_in_what_the_model_says(found, params):
  assert found.lens.ids.shape == (3, 7, 4)
  np.testing.assert_allclose(
    found.lens.probs[-1], found.next_tokens.probs, rtol=1e-6
  )
  x = params.wte.numpy()[found.ids] + params.wpe.numpy()[:7]
  probs = softmax(normalized(x) @ params.wte.numpy().T)
  np.testing.assert_array_equal(found.lens.ids[0][:, 0], probs.argmax(-1))


def test_a_prompt_that_does_not_fit_is_refused(params, prompted):
  for n in (0, 9):
    with pytest.raises(UsageError, match=f'{n} tokens.*context_length=8'):
      inspect(np.zeros(n, np.int32), params, prompted.config)


def test_labels_show_white_space(prompted):
  shown = [
    label(i, prompted.tokenizer) for i in prompted.tokenizer.encode('a \n')
  ]
  assert shown == ['a', '·', '⏎']
