"""1: rows of a batch are independent; 2: minus the sum of cross entropies."""

import quiet  # noqa: F401, I001

import numpy as np
import tensorflow as tf

from minigpt import tokenizers
from minigpt.config import GPTConfig
from minigpt.data.sources import SAMPLE
from minigpt.model.layers import cross_entropy
from minigpt.model.transformer import GPT, gpt
from minigpt.serving.signatures import Server

tokenizer = tokenizers.build('char', SAMPLE)
config = GPTConfig(
  vocab_size=tokenizer.vocab_size,
  context_length=16,
  emb_dim=16,
  n_heads=2,
  n_layers=1,
  init_std=0.5,
)
model = GPT(config)
server = Server(model.params, config, tokenizer, max_new_tokens_limit=8)

k = tf.constant([3])
alone = server.next_token(tf.constant(['the sun']), k)
among = server.next_token(
  tf.constant(['the stars', 'the sun', 't']), tf.repeat(k, 3)
)
assert np.array_equal(alone['text'][0], among['text'][1])
np.testing.assert_allclose(
  alone['probabilities'][0], among['probabilities'][1], rtol=1e-5
)

ids = tokenizer.encode('the moon')[None]
logits = gpt(tf.constant(ids[:, :-1]), model.params, config)
log_prob = -tf.reduce_sum(cross_entropy(logits, tf.constant(ids[:, 1:])))
answer = server.score(tf.constant(['the moon']))['log_prob'][0]
print(f'{float(answer):.3f} by the server, {float(log_prob):.3f} by hand')
np.testing.assert_allclose(answer, log_prob, rtol=1e-5)
