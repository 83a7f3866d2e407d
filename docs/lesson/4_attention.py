"""Attention in three levels, and its maps."""

import quiet  # noqa: F401, I001

import drawing
import numpy as np
import tensorflow as tf

from minigpt.analysis import figures
from minigpt.config import GPTConfig
from minigpt.model.attention import (
  attention,
  causal_attention,
  causal_mask,
  dot_product_attention,
)
from minigpt.model.hooks import capture
from minigpt.model.layers import linear
from minigpt.model.params import init_params

WORDS = ['the', 'sun', 'sets', 'slowly']
config = GPTConfig(emb_dim=8, n_heads=2, n_layers=1, vocab_size=4, init_std=0.6)
params = init_params(config, seed=7)
p = params.blocks[0].attn
x = params.wte[None, :4] + params.wpe[None, :4]
q, k, v = tf.split(linear(x, p.c_attn), 3, axis=-1)


def show(title: str, weights: np.ndarray) -> None:
  print(title)
  for word, row in zip(WORDS, weights, strict=True):
    print(f'  {word:<7}', '  '.join(f'{w:.2f}' for w in row))


attend = capture(dot_product_attention, 'weights')
_, seen = attend(q, k, v)
everywhere = seen['weights'][0].numpy()
show('1. everyone looks at everyone', everywhere)

_, seen = attend(q, k, v, causal_mask(4))
causal = seen['weights'][0].numpy()
show('2. nobody looks ahead', causal)

_, seen = capture(attention, 'weights')(x, p, n_heads=2)
heads = seen['weights'][0].numpy()
show('3. several heads look side by side; head 0', heads[0])
show('   head 1', heads[1])

one = attention(x, p, n_heads=1) - causal_attention(x, p)
print('one head is level 2:', bool(tf.reduce_max(tf.abs(one)) < 1e-6))

if drawing.path():
  maps = np.stack([everywhere, causal, *heads])[None]
  figure = figures.attention(maps, WORDS, range(1), range(4))
  titles = ['everyone', 'causal', 'head 0', 'head 1']
  for axes, title in zip(figure.axes, titles, strict=False):
    axes.set_title(title, fontsize=8)
  drawing.save(figure)
