"""1: both give the same rows; 2: 39.4 million, 32% of the model."""

import quiet  # noqa: F401, I001

import numpy as np
import tensorflow as tf

from minigpt.config import GPTConfig
from minigpt.model.layers import embedding_lookup

table = np.random.default_rng(0).normal(size=[5, 3]).astype(np.float32)
ids = [4, 0, 4]
by_matmul = tf.one_hot(ids, depth=5) @ table
assert np.allclose(by_matmul, embedding_lookup(table, ids))

config = GPTConfig()
n = (config.vocab_size + config.context_length) * config.emb_dim
print(f'{n:,} numbers, {n / config.n_parameters:.0%} of the model')
assert n == 38_597_376 + 786_432
