"""1: the tape agrees; 2: by the learning rate, for any gradient."""

import quiet  # noqa: F401, I001

import numpy as np
import tensorflow as tf

from minigpt.config import TrainConfig
from minigpt.model.layers import cross_entropy
from minigpt.training.optimizers import Moments, adamw_rule, update

logits, target = tf.Variable([1.0, -2.0, 0.5]), tf.constant(2)
with tf.GradientTape() as tape:
  loss = cross_entropy(logits, target)
expected = tf.nn.softmax(logits) - tf.one_hot(target, 3)
assert np.allclose(tape.gradient(loss, logits), expected, atol=1e-6)

recipe = TrainConfig(weight_decay=0.0)
zeros = Moments(tf.zeros([2]), tf.zeros([2]))
before, grads = tf.constant([1.0, 1.0]), tf.constant([100.0, 0.001])
rate = tf.constant(0.01)
after, *_ = update(
  before, grads, zeros, tf.constant(0), rate, config=recipe, rule=adamw_rule
)
print('moved by', (before - after).numpy())
assert np.allclose(before - after, [0.01, 0.01], rtol=1e-3)
