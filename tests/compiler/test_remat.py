"""Rematerialization: what the gradient recomputes."""

import numpy as np
import pytest
import tensorflow as tf

from minigpt.compiler import jit, remat
from minigpt.config import COMPILE_MODES


@pytest.mark.parametrize('mode', COMPILE_MODES)
def test_a_rematerialized_function_has_its_own_gradient(mode):
  calls = []

  def f(x, tree):
    calls.append(1)
    return tf.sin(x @ tree['w']) + tree['b']

  def gradients(f, x, tree):
    with tf.GradientTape() as tape:
      tape.watch([x, tree])
      y = f(x, tree)
    return [y, *tape.gradient(y, [x, *tf.nest.flatten(tree)])]

  x = tf.random.stateless_normal([4, 3], [0, 0])
  tree = {'w': tf.random.stateless_normal([3, 5], [0, 1]), 'b': tf.ones([5])}
  expected = gradients(f, x, tree)
  calls.clear()
  program = jit.compiled(
    lambda x, tree: gradients(remat.rematerialized(f), x, tree), mode
  )
  for one, other in zip(program(x, tree), expected, strict=True):
    np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-6)
  assert len(calls) == 2  # Once in the forward pass, once in the backward pass.


def test_what_is_worth_it():
  many = remat.FREE_BYTES // 4
  assert not remat.worth_rematerializing(many)
  assert remat.worth_rematerializing(many // 8, 9)
  assert remat.worth_rematerializing(1, tf.constant(1))
