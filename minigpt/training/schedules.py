"""The learning rate as a function of the step."""

import math

import tensorflow as tf

from minigpt.config import TrainConfig


def learning_rate(step: tf.Tensor, config: TrainConfig) -> tf.Tensor:
  """Computes the learning rate: a linear warm-up, then a decay.

  The decay ends at `min_learning_rate`. The schedule `cosine` follows half a
  cosine (Loshchilov & Hutter 2017, equation 5). The schedule `wsd` (Hu et al.
  2024, section 4) stays at the peak and falls linearly over the last steps.

  Args:
    step: int [], counted from 0.
    config: the recipe.

  Returns:
    float32 [].
  """
  c = config
  step = tf.cast(step, tf.float32)
  warmup = (step + 1) / (c.warmup_steps + 1)
  decay_steps = max(c.steps - c.warmup_steps, 1)
  progress = tf.clip_by_value((step - c.warmup_steps) / decay_steps, 0.0, 1.0)
  if c.schedule == 'wsd':
    share = tf.minimum((1 - progress) / c.decay_share, 1.0)
  else:
    share = 0.5 * (1 + tf.cos(math.pi * progress))
  low, high = c.min_learning_rate, c.learning_rate
  return tf.where(
    step < c.warmup_steps, high * warmup, low + (high - low) * share
  )
