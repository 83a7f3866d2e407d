"""1: three lines; 2: attention has 3 + 1, the MLP has 4 + 4."""

import quiet  # noqa: F401, I001

import dataclasses

import numpy as np

from minigpt.config import GPTConfig
from minigpt.model.layers import layernorm
from minigpt.model.params import LayerNorm

rng = np.random.default_rng(0)
x = rng.normal(3, 5, size=[2, 8]).astype(np.float32)
gain, bias = rng.normal(size=[2, 8]).astype(np.float32)
mean, variance = x.mean(-1, keepdims=True), x.var(-1, keepdims=True)
by_hand = gain * (x - mean) / np.sqrt(variance + 1e-5) + bias
assert np.allclose(by_hand, layernorm(x, LayerNorm(gain, bias)), atol=1e-5)

config = GPTConfig(bias=False)
deeper = dataclasses.replace(config, n_layers=config.n_layers + 1)
a_block = deeper.n_parameters - config.n_parameters
d = config.emb_dim
print(f'a block of GPT-2 124M has {a_block:,} weights')
assert a_block == (3 + 1 + 4 + 4) * d * d + 2 * d
