"""Tokens become vectors that also say where the tokens stand."""

import quiet  # noqa: F401, I001

import drawing
import numpy as np
import tensorflow as tf

from minigpt import tokenizers
from minigpt.config import GPTConfig
from minigpt.data.sources import SAMPLE
from minigpt.model.attention import self_attention
from minigpt.model.params import init_params

tokenizer = tokenizers.build('char', SAMPLE)
config = GPTConfig(
  vocab_size=tokenizer.vocab_size,
  context_length=16,
  emb_dim=12,
  n_heads=1,
  n_layers=1,
  init_std=0.5,
)
params = init_params(config, seed=0)
ids = tokenizer.encode('the tent')
print('token embeddings', params.wte.shape, '- a row for each token')
print('position embeddings', params.wpe.shape, '- a row for each position')

tokens = tf.gather(params.wte, ids)
x = tokens + params.wpe[: len(ids)]
print('the text as vectors', x.shape)


def same(a: tf.Tensor, b: tf.Tensor) -> bool:
  return bool(np.allclose(a, b, atol=1e-5))


print("both 't' alike without positions:", same(tokens[0], tokens[4]))
print("both 't' alike with positions:   ", same(x[0], x[4]))

# Attention alone is blind to order: shuffle what goes in, and what comes out
# is shuffled alike. Positions are what lets it tell 'ten' from 'net'.
order = np.array([3, 1, 0, 2, 7, 6, 5, 4])
attn = params.blocks[0].attn
plain = self_attention(tokens[None], attn)[0]
shuffled = self_attention(tf.gather(tokens, order)[None], attn)[0]
print('shuffled in, shuffled out:', same(tf.gather(plain, order), shuffled))

if drawing.path():
  figure, panels = drawing.new(8, 2.6, 3)
  parts = [tokens, params.wpe[: len(ids)], x]
  titles = ['rows of wte', '+ rows of wpe', '= what enters the blocks']
  for panel, part, title in zip(panels, parts, titles, strict=True):
    drawing.matrix(panel, part.numpy(), title, 'the_tent')
  drawing.save(figure)
