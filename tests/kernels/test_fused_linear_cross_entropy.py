"""The loss in chunks equals the loss at once, as does its gradient."""

import dataclasses

import numpy as np
import pytest
import tensorflow as tf

from minigpt.compiler import jit
from minigpt.kernels import fused_linear_cross_entropy
from minigpt.kernels.fused_linear_cross_entropy import chunked_loss
from minigpt.model.loss import linear_cross_entropy
from minigpt.model.transformer import GPT

N_BYTES = 4 * 17 * 5  # Logits of five of the 3 x 12 tokens: one is left.


def loss_and_gradients(config, tokens):
  model = GPT(config, seed=1)
  hidden = tf.random.stateless_normal([*tokens.shape, config.emb_dim], [0, 1])
  weights = tf.random.stateless_uniform(tokens.shape, [2, 3])

  def both(hidden, table):
    p = model.params._replace(wte=table)
    with tf.GradientTape() as tape:
      tape.watch([hidden, table])
      loss = 3 * linear_cross_entropy(hidden, tokens, weights, p, config)
    return loss, tape.gradient(loss, [hidden, table])

  return both, (hidden, model.params.wte.read_value())


@pytest.fixture
def n_kept(monkeypatch):
  """Counts how often the gradient of all scores was kept."""
  made, real = [], fused_linear_cross_entropy._kept
  monkeypatch.setattr(
    fused_linear_cross_entropy,
    '_kept',
    lambda *given: made.append(1) or real(*given),
  )
  return lambda: len(made)


@pytest.mark.parametrize('mode', ['xla', 'hybrid', 'graph'])
@pytest.mark.parametrize('padding', [0, 3])
@pytest.mark.parametrize('n_texts', [1, 3])
def test_chunks_change_nothing(
  config, tokens, mode, padding, n_texts, n_kept, monkeypatch
):
  config = dataclasses.replace(config, vocab_padding=padding)
  tokens = tokens[:n_texts]
  monkeypatch.setattr(fused_linear_cross_entropy, 'LOGITS_BYTES', N_BYTES)
  both, given = loss_and_gradients(config, tokens)
  # Eager code runs the definition, which makes all logits at once.
  expected, found = both(*given), jit.compiled(both, mode)(*given)
  # Gradients of 12 rows of scores are smaller than two of the head's, those of
  # 36 are not.
  assert n_kept() == (mode == 'xla' and n_texts == 1)
  np.testing.assert_allclose(found[0], expected[0], rtol=1e-5)
  for a, b in zip(found[1], expected[1], strict=True):
    assert np.abs(b).max() > 0.1
    np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)


def test_gradients_of_chunks_are_added_in_float32():
  """In bfloat16 the sum of 1,024 ones would stop at 256."""
  x = tf.ones([1024, 1], tf.bfloat16)
  w = tf.ones([1, 1], tf.bfloat16)
  with tf.GradientTape() as tape:
    tape.watch(w)
    total = chunked_loss(
      tf.matmul,
      lambda scores: tf.cast(tf.reduce_sum(scores), tf.float32),
      1024,
      x,
      w,
    )
  assert total == 1024
  assert tape.gradient(total, w) == 1024


@pytest.mark.parametrize('n_bytes', [N_BYTES, N_BYTES // 5])
def test_no_chunk_holds_more_logits_than_it_may(
  config, tokens, n_bytes, monkeypatch
):
  """Unless there would be more than eight chunks, which are slower."""
  monkeypatch.setattr(fused_linear_cross_entropy, 'LOGITS_BYTES', n_bytes)
  parts, given = loss_and_gradients(config, tokens)
  made = jit.compiled(parts, 'graph').get_concrete_function(*given)
  functions = [made.graph, *made.graph._functions.values()]
  shapes = [
    out.shape
    for f in functions
    for op in getattr(f, 'graph', f).get_operations()
    for out in op.outputs
    if out.dtype == tf.float32 and out.shape.rank
  ]
  wide = [s for s in shapes if s[-1] == config.vocab_size]
  assert wide and max(s.num_elements() for s in wide) == N_BYTES // 4
