"""1: only the most likely token is left; 2: 392,960 and 1,023."""

import quiet  # noqa: F401, I001

import numpy as np
import tensorflow as tf

from minigpt.generation.sampling import make_sampling, sample

logits = tf.constant(np.random.default_rng(0).normal(size=[16, 50]), tf.float32)
options = make_sampling(16, temperature=5.0, top_k=1, seed=tf.range(16))
sampled = sample(logits, options, tf.zeros([16], tf.int32))
assert np.array_equal(sampled, tf.argmax(logits, -1))

without, cached = sum(range(512, 1024)), 512 + 512 - 1
print(f'{without:,} tokens without a cache, {cached:,} with one')
assert (without, cached) == (392_960, 1_023)
