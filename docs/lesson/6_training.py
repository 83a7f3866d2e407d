"""Training by hand: loss, gradient tape, AdamW."""

import quiet  # noqa: F401, I001

import math

import drawing
import numpy as np
import tensorflow as tf

from minigpt import tokenizers
from minigpt.config import GPTConfig, TrainConfig
from minigpt.data.batches import train_batches
from minigpt.data.sources import SAMPLE
from minigpt.data.windows import make_windows
from minigpt.model.loss import loss_fn
from minigpt.model.transformer import GPT
from minigpt.training import optimizers
from minigpt.training.schedules import learning_rate

tokenizer = tokenizers.build('char', SAMPLE)
config = GPTConfig(
  vocab_size=tokenizer.vocab_size,
  context_length=16,
  emb_dim=32,
  n_heads=2,
  n_layers=1,
  drop_rate=0.0,
)
recipe = TrainConfig(steps=150, learning_rate=1e-2, warmup_steps=10)
rule = {'config': recipe, 'rule': optimizers.adamw_rule}
model = GPT(config, seed=0)
mus = [tf.Variable(tf.zeros_like(v)) for v in model.variables]
nus = [tf.Variable(tf.zeros_like(v)) for v in model.variables]


@tf.function
def step(windows: tf.Tensor, i: tf.Tensor) -> tf.Tensor:
  with tf.GradientTape() as tape:
    loss = loss_fn(windows, model.params, config)
  grads = tape.gradient(loss, model.variables)
  rate = learning_rate(i, recipe)
  for param, grad, mu, nu in zip(model.variables, grads, mus, nus, strict=True):
    moments = optimizers.Moments(mu, nu)
    updated = optimizers.update(param, grad, moments, i, rate, **rule)
    for variable, value in zip((param, mu, nu), updated, strict=True):
      variable.assign(value)
  return loss


windows = make_windows(tokenizer.encode(SAMPLE), 16, 1, config.vocab_size)
calls = [range(i, i + 1) for i in range(recipe.steps)]
batches = enumerate(train_batches(windows, (1, 8), 0, calls, 1))
losses = [float(step(batch[0, 0], tf.constant(i))) for i, batch in batches]
print(f'guessing costs ln {config.vocab_size} = ', end='')
print(f'{math.log(config.vocab_size):.2f} nats per token')
print(f'the first step costs {losses[0]:.1f}')
below = next(i for i, loss in enumerate(losses) if loss < 1.0)
print(f'below 1.0 before step 100: {below < 100}')
print(f'the last ten steps cost less than 0.5: {np.mean(losses[-10:]) < 0.5}')

if drawing.path():
  figure, panels = drawing.new(8, 2.8, 2)
  panels[0].plot(losses)
  panels[0].axhline(math.log(config.vocab_size), color='grey', ls='--')
  panels[0].set_title('loss in nats; dashed: ln 16', fontsize=9)
  rates = [learning_rate(tf.constant(i), recipe) for i in range(recipe.steps)]
  panels[1].plot(rates, color='C1')
  panels[1].set_title('learning rate', fontsize=9)
  for panel in panels:
    panel.set_xlabel('step')
  drawing.save(figure)
