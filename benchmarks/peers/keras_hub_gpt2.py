"""KerasHub's GPT-2 on TensorFlow, with XLA (--compile) or without."""

import os

os.environ['KERAS_BACKEND'] = 'tensorflow'
os.environ.setdefault('TF_CPP_MIN_LOG_LEVEL', '2')

import harness
import keras
import keras_hub
import numpy as np
import tensorflow as tf


def model(a):
  """With random weights of its own."""
  if a.weights == 'int8':
    raise harness.UnableError('KerasHub runs here without int8')
  mixed = {'float32': 'float32', 'bfloat16': 'mixed_bfloat16'}
  low = a.weights == 'bfloat16'
  policy = 'bfloat16' if low else mixed[a.compute_dtype]
  keras.config.set_dtype_policy(policy)
  keras.utils.set_random_seed(0)
  backbone = keras_hub.models.GPT2Backbone(
    vocabulary_size=a.vocab,
    num_layers=a.layers,
    num_heads=a.heads,
    hidden_dim=a.width,
    intermediate_dim=4 * a.width,
    dropout=0.0,
    max_sequence_length=a.context_length,
  )
  made = keras_hub.models.GPT2CausalLM(backbone, preprocessor=None)
  made.compile(
    optimizer=keras.optimizers.AdamW(
      3e-4, weight_decay=0.1, beta_1=0.9, beta_2=0.95, global_clipnorm=1.0
    ),
    loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    sampler='greedy',
    jit_compile=a.compile,
  )
  return made


def inputs(tokens, n_more=0):
  """Tokens, and room for more."""
  room = [(0, 0), (0, n_more)]
  return {
    'token_ids': np.pad(tokens, room),
    'padding_mask': np.pad(np.ones_like(tokens), room),
  }


def train(a):
  lm, windows = model(a), harness.windows(a)
  x, y = inputs(windows[:, :-1]), windows[:, 1:]

  def step():
    return lm.train_on_batch(x, y, return_dict=True)['loss']

  return harness.train_work(a, step)


def prefill(a):
  lm, prompts = model(a), inputs(harness.prompts(a))

  @tf.function(jit_compile=a.compile or None)
  def score(prompts):
    hidden = lm.backbone(prompts, training=False)
    return lm.backbone.token_embedding(hidden[:, -1], reverse=True)

  return harness.prefill_work(a, lambda: score(prompts).numpy())


def decode(a):
  """It prefills the prompt with its padding for the answer."""
  lm, prompts = model(a), harness.prompts(a)

  def generate(n):
    given = inputs(prompts, n)
    made = lm.generate(given, stop_token_ids=None)
    return made['token_ids'][:, a.prompt_length :]

  return harness.decode_work(a, generate)


if __name__ == '__main__':
  harness.run('KerasHub', train=train, prefill=prefill, decode=decode)
