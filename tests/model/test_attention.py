import numpy as np
import pytest
import tensorflow as tf

from minigpt.compiler import jit
from minigpt.config import COMPILE_MODES
from minigpt.model import attention as att
from minigpt.model import kv_cache
from minigpt.model.params import Attention, Linear


@pytest.fixture
def x():
  return tf.random.stateless_normal([2, 4, 6], [1, 1])


@pytest.fixture
def p():
  def linear(n_in, n_out, seed):
    return Linear(
      tf.random.stateless_normal([n_in, n_out], [seed, 0]),
      tf.random.stateless_normal([n_out], [seed, 1]),
    )

  return Attention(linear(6, 18, 5), linear(6, 6, 6))


def by_hand(x, p, mask, n_heads=1):
  """Computes attention in NumPy, one query at a time."""
  w, b, w_out, b_out = (np.array(leaf) for part in p for leaf in part)
  out = np.zeros_like(x)
  for row in range(x.shape[0]):
    q, k, v = np.split(np.array(x)[row] @ w + b, 3, axis=-1)
    for head in np.split(np.arange(x.shape[2]), n_heads):
      for t in range(x.shape[1]):
        scores = k[:, head] @ q[t, head] / np.sqrt(len(head))
        weights = np.exp(scores) * mask[t]
        out[row, t, head] = weights / weights.sum() @ v[:, head]
  return out @ w_out + b_out


CAUSAL = np.array([[1, 0, 0, 0], [1, 1, 0, 0], [1, 1, 1, 0], [1, 1, 1, 1]])


def test_causal_mask_as_written_by_hand():
  np.testing.assert_array_equal(att.causal_mask(4), CAUSAL == 1)


def test_each_step_of_the_ladder_by_hand(x, p):
  for y, mask, n_heads in (
    (att.self_attention(x, p), np.ones([4, 4]), 1),
    (att.causal_attention(x, p), CAUSAL, 1),
    (att.attention(x, p, n_heads=3), CAUSAL, 3),
  ):
    np.testing.assert_allclose(y, by_hand(x, p, mask, n_heads), 1e-4, 1e-5)


def test_one_head_is_causal_attention(x, p):
  np.testing.assert_allclose(
    att.attention(x, p, n_heads=1), att.causal_attention(x, p), rtol=1e-6
  )


def test_heads_split_and_merge_back(x):
  heads = att.split_heads(x, 3)
  assert heads.shape == [2, 3, 4, 2]
  np.testing.assert_array_equal(heads[1, 2, 3], x[1, 3, 4:6])
  np.testing.assert_array_equal(att.merge_heads(heads), x)


def test_dropout_falls_on_weights_and_output(x, p):
  rng = tf.constant([1, 2])
  dry = att.attention(x, p, 2)
  wet = att.attention(x, p, 2, drop_rate=0.5, rng=rng)
  assert (wet.numpy() == 0).any()
  kept = wet.numpy() != 0
  # Entries kept by the output's dropout still differ by that of the weights.
  assert not np.allclose(wet[kept], 2 * dry[kept])


def test_cached_attention_in_two_parts_equals_attention(x, p):
  full = att.attention(x, p, n_heads=2)
  empty = kv_cache.KVCache(tf.zeros([2, 2, 5, 3]), tf.zeros([2, 2, 5, 3]))
  first, cache = kv_cache.cached_attention(
    x[:, :3], p, 2, empty, tf.zeros(2, tf.int32)
  )
  last, cache = kv_cache.cached_attention(
    x[:, 3:], p, 2, cache, tf.constant([3, 3])
  )
  np.testing.assert_allclose(tf.concat([first, last], 1), full, 1e-5, 1e-6)


@pytest.mark.parametrize('cached', [False, True])
def test_one_position_alone_attends_as_it_does_among_all(x, p, cached):
  n_old = 2 if cached else 0
  start, cache = tf.fill([2], n_old), None
  if cached:
    empty = kv_cache.KVCache(tf.zeros([2, 2, 5, 3]), tf.zeros([2, 2, 5, 3]))
    _, cache = kv_cache.cached_attention(x[:, :2], p, 2, empty, 0 * start)
  new = x[:, n_old:]
  every, full = kv_cache.cached_attention(new, p, 2, cache, start)
  only = tf.constant([1, 0])
  one, kept = kv_cache.cached_attention(
    new, p, 2, cache, start, query_index=only
  )
  assert one.shape == [2, 1, 6]
  for row, place in enumerate(only):
    np.testing.assert_allclose(one[row, 0], every[row, place], 1e-5, 1e-6)
  for found, wanted in zip(kept, full, strict=True):
    np.testing.assert_array_equal(found, wanted)


def test_rows_of_a_cache_stand_at_positions_of_their_own(x, p):
  """Row 0 has seen one token, row 1 three; both read x[:, 3] next."""
  shape = [2, 2, 4, 3]
  cache = kv_cache.KVCache(tf.zeros(shape), tf.zeros(shape))
  _, cache = kv_cache.cached_attention(
    x[:, :3], p, 2, cache, tf.zeros(2, tf.int32)
  )
  y, _ = kv_cache.cached_attention(x[:, 3:], p, 2, cache, tf.constant([1, 3]))
  short = att.attention(tf.stack([x[0, 0], x[0, 3]])[None], p, 2)
  np.testing.assert_allclose(y[0, 0], short[0, 1], 1e-5, 1e-6)
  np.testing.assert_allclose(y[1, 0], att.attention(x, p, 2)[1, 3], 1e-5, 1e-6)


@pytest.mark.parametrize('n_texts', [1, 2])
@pytest.mark.parametrize('dtype', ['float32', 'bfloat16'])
def test_a_single_query_is_compared_alike_in_each_mode(dtype, n_texts):
  q = tf.random.stateless_normal([n_texts, 3, 1, 8], [1, 2])
  k, v = tf.random.stateless_normal([2, n_texts, 3, 5, 8], [3, 4])
  given = [tf.cast(x, dtype) for x in (q, k, v)]
  mask = tf.constant([True, True, False, True, True])

  def attend(q, k, v):
    return att.dot_product_attention(q, k, v, mask)

  expected = attend(q, k, v)
  allowed = 1e-5 if dtype == 'float32' else 2e-2
  for mode in COMPILE_MODES:
    found = jit.compiled(attend, mode)(*given)
    assert found.dtype == dtype
    np.testing.assert_allclose(
      tf.cast(found, tf.float32), expected, atol=allowed
    )
