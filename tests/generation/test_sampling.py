"""Filters by hand, and the independence of samples."""

import numpy as np
import pytest
import tensorflow as tf

from minigpt.generation.sampling import (
  Sampling,
  gumbel,
  keep_min_p,
  keep_top_k,
  keep_top_p,
  make_sampling,
  sample,
)
from minigpt.generation.sampling_fields import SAMPLING_FIELDS


def options(n_rows, temperature=1.0, **more):
  return make_sampling(
    n_rows, temperature=temperature, seed=tf.range(n_rows), **more
  )


def test_top_k_by_hand():
  logits = tf.constant([[1.0, 3.0, 2.0, 0.0]] * 3)
  kept = np.isfinite(keep_top_k(logits, tf.constant([1, 3, 0])))
  assert kept.tolist() == [
    [False, True, False, False],
    [True, True, True, False],
    [True, True, True, True],
  ]
  assert np.isfinite(keep_top_k(logits, tf.constant([9, 9, 9]))).all()


def test_top_p_by_hand():
  logits = tf.math.log([[0.1, 0.5, 0.3, 0.1]] * 4)
  p = tf.constant([0.01, 0.5, 0.7, 1.0])
  kept = np.isfinite(keep_top_p(logits, p))
  assert kept.tolist() == [
    [False, True, False, False],
    [False, True, False, False],
    [False, True, True, False],
    [True, True, True, True],
  ]


def test_min_p_by_hand():
  logits = tf.math.log([[0.1, 0.5, 0.3, 0.1]] * 4)
  kept = np.isfinite(keep_min_p(logits, tf.constant([0.0, 0.19, 0.5, 1.0])))
  assert kept.tolist() == [
    [True, True, True, True],
    [True, True, True, True],
    [False, True, True, False],
    [False, True, False, False],
  ]


def test_min_p_leaves_rows_alone_that_do_not_ask_for_it():
  n = 1000
  logits = tf.tile(tf.math.log([[0.1, 0.6, 0.3]]), [n, 1])
  step = tf.zeros([n], tf.int32)
  half = tf.cast(tf.range(n) % 2, tf.float32) * 0.9
  with_min_p = sample(logits, options(n, min_p=half), step).numpy()
  without = sample(logits, options(n), step).numpy()
  np.testing.assert_array_equal(with_min_p[::2], without[::2])
  assert set(with_min_p[1::2]) == {1}
  assert set(without[1::2]) == {0, 1, 2}


def test_samples_follow_the_softmax():
  n = 4000
  logits = tf.tile(tf.math.log([[0.1, 0.6, 0.3]]), [n, 1])
  compiled = tf.function(sample)  # Compiled, as eager rows would be slow.
  sampled = compiled(logits, options(n), tf.zeros([n], tf.int32))
  shares = np.bincount(sampled, minlength=3) / n
  np.testing.assert_allclose(shares, [0.1, 0.6, 0.3], atol=0.03)
  cold = compiled(logits, options(n, temperature=0.5), tf.zeros([n], tf.int32))
  square = np.array([0.01, 0.36, 0.09]) / 0.46
  shares = np.bincount(cold, minlength=3) / n
  np.testing.assert_allclose(shares, square, atol=0.03)


def test_noise_depends_on_seed_and_step():
  noise = [
    gumbel(tf.constant([seed]), tf.constant([step]), 5).numpy()
    for seed, step in ((0, 0), (0, 1), (1, 0))
  ]
  again = gumbel(tf.constant([0]), tf.constant([0]), 5)
  np.testing.assert_array_equal(noise[0], again)
  assert len({n.tobytes() for n in noise}) == 3


def test_options_that_are_not_given_have_their_defaults():
  found = make_sampling(2, temperature=[0.0, 0.5])
  assert found.temperature.numpy().tolist() == [0.0, 0.5]
  for name in set(Sampling._fields) - {'temperature'}:
    field = SAMPLING_FIELDS[name]
    values = getattr(found, name)
    assert values.dtype == field.dtype
    assert values.numpy().tolist() == [field.default] * 2
  with pytest.raises(TypeError, match='no sampling options: top_q'):
    make_sampling(2, top_q=1)


def test_each_row_is_filtered_by_its_own_options():
  """Row 0 uses top_k, row 1 top_p, row 2 no filter."""
  logits = tf.math.log([[0.3, 0.4, 0.3]] * 3)
  how = options(3, top_k=[1, 0, 0], top_p=[1.0, 0.2, 1.0])
  found = {
    tuple(sample(logits, how, tf.fill([3], step)).numpy()) for step in range(30)
  }
  columns = [set(column) for column in zip(*found, strict=True)]
  assert columns == [{1}, {1}, {0, 1, 2}]


def test_greedy_rows_beside_sampled_ones_take_the_most_likely():
  logits = tf.constant([[0.0, 0.1, 0.0]] * 2)
  how = options(2, temperature=[0.0, 1.0])
  rows = [sample(logits, how, tf.fill([2], i)).numpy() for i in range(20)]
  assert {row[0] for row in rows} == {1}
  assert len({row[1] for row in rows}) > 1
