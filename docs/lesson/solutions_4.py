"""1: the model could copy the answer; 2: 8, then 1; nearly one-hot."""

import quiet  # noqa: F401, I001

import numpy as np
import tensorflow as tf

from minigpt.config import GPTConfig
from minigpt.model.params import init_params
from minigpt.model.transformer import gpt

config = GPTConfig(
  vocab_size=7, context_length=8, emb_dim=16, n_heads=2, n_layers=1
)
params = init_params(config)
one = gpt(tf.constant([[1, 2, 3, 4]]), params, config)
other = gpt(tf.constant([[1, 2, 3, 0]]), params, config)
assert np.array_equal(one[0, :3], other[0, :3])
assert not np.array_equal(one[0, 3], other[0, 3])

rng = np.random.default_rng(0)
q, k = rng.normal(size=[2, 10_000, 64])
scores = (q * k).sum(-1)
print(f'deviation {scores.std():.2f}, divided {scores.std() / 8:.2f}')
assert 7.8 < scores.std() < 8.2
sharp = tf.nn.softmax(scores.reshape(1000, 10))
soft = tf.nn.softmax(scores.reshape(1000, 10) / 8)
highest = [float(tf.reduce_mean(tf.reduce_max(w, -1))) for w in (sharp, soft)]
print('highest of ten weights, on average:', np.round(highest, 2))
assert highest[0] > 0.85 and highest[1] < 0.5
