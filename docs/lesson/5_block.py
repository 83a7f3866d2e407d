"""Layer norm, GELU, the MLP, and the block made of them."""

import quiet  # noqa: F401, I001

import drawing
import numpy as np
import tensorflow as tf

from minigpt.config import GPTConfig
from minigpt.model.attention import attention
from minigpt.model.layers import gelu, layernorm
from minigpt.model.params import count, init_params
from minigpt.model.transformer import block, gpt, mlp, unembed

config = GPTConfig(
  vocab_size=10,
  context_length=8,
  emb_dim=16,
  n_heads=2,
  n_layers=2,
  drop_rate=0.0,
  init_std=0.3,
)
params = init_params(config, seed=0)
p = params.blocks[0]
ids = tf.constant([[3, 1, 4, 1, 5]])
x = tf.gather(params.wte, ids) + params.wpe[:5]

y = 100 * x + 7
print(f'before the norm: mean {np.mean(y):.1f}, deviation {np.std(y):.1f}')
y = layernorm(y, p.ln_1)
print(f'after the norm:  mean {abs(np.mean(y)):.1f}, deviation {np.std(y):.1f}')

print('x    ', '  '.join(f'{v:5.2f}' for v in [-3, -1, 0, 1, 3]))
curve = gelu(tf.constant([-3.0, -1.0, 0.0, 1.0, 3.0])).numpy()
print('gelu ', '  '.join(f'{v:5.2f}' for v in curve))

print(f'the MLP goes {config.emb_dim} -> {config.mlp_dim} -> {config.emb_dim}')
print(f'attention has {count(p.attn)} parameters, the MLP {count(p.mlp)}')

# The block by hand: two additions to the residual stream.
mid = x + attention(layernorm(x, p.ln_1), p.attn, config.n_heads)
by_hand = mid + mlp(layernorm(mid, p.ln_2), p.mlp)
equal = np.array_equal(by_hand, block(x, p, config))
print('block by hand is the block:', equal)

# The whole model by hand: blocks, one more norm, and a score for each token.
for layer in params.blocks:
  x = block(x, layer, config)
logits = unembed(layernorm(x, params.ln_f), params, config)
equal = np.array_equal(logits, gpt(ids, params, config))
print('logits', logits.shape, 'by hand are those of gpt:', equal)

if drawing.path():
  figure, panels = drawing.new(8, 2.8, 3)
  line = np.linspace(-4, 4, 81, dtype=np.float32)
  panels[0].plot(line, np.maximum(line, 0), '--', label='ReLU')
  panels[0].plot(line, gelu(tf.constant(line)), label='GELU')
  panels[0].set_title('GELU has no corner', fontsize=9)
  panels[0].legend()
  drawing.matrix(
    panels[1], logits[0].numpy(), 'logits, a row for each position'
  )
  chances = tf.nn.softmax(logits[0]).numpy()
  drawing.matrix(panels[2], chances, 'their softmax: rows sum to 1')
  drawing.save(figure)
