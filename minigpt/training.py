"""Training: the step, the evaluation, and the loop around them.

Shapes: K steps in a call, A accumulated gradients, B batch, T context.
"""

from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from minigpt.config import GPTConfig, TrainConfig
from minigpt.data import eval_batches
from minigpt.model import GPT, gpt, loss_fn
from minigpt.ops import cross_entropy, fold
from minigpt.optim import Moments, adamw_update, clip_scale, learning_rate
from minigpt.params import Params, cast


class TrainState(tf.Module):
  """All that a step reads and changes; a checkpoint holds just this."""

  def __init__(self, model: GPT):
    super().__init__(name='train_state')
    self.params = model.params
    self.moments = Moments(_zeros_like(model.params), _zeros_like(model.params))
    self.step = tf.Variable(0, dtype=tf.int64)

  def parts(self) -> dict[str, Any]:
    """The variables, by the names that a checkpoint gives their trees."""
    return {'params': self.params, 'moments': self.moments, 'step': self.step}

  def checkpoint(self) -> tf.train.Checkpoint:
    return tf.train.Checkpoint(**self.parts())


def _zeros_like(params: Params) -> Params:
  return tf.nest.map_structure(lambda p: tf.Variable(tf.zeros_like(p)), params)


class StepMetrics(NamedTuple):
  """What one step reports, f32 [] each; [K] for the steps of a call."""

  loss: tf.Tensor  # nats per token
  grad_norm: tf.Tensor  # before clipping
  learning_rate: tf.Tensor


def loss_and_grads(
  windows: tf.Tensor,
  params: Params,
  config: GPTConfig,
  compute_dtype: str,
  rng: tf.Tensor | None,
) -> tuple[tf.Tensor, Params]:  # int [B, T + 1] -> [], f32 tree
  """The loss and its gradient; each weight is cast once."""
  with tf.GradientTape() as tape:
    loss = loss_fn(windows, cast(params, compute_dtype), config, rng)
  grads = tape.gradient(loss, params)
  return loss, tf.nest.map_structure(tf.convert_to_tensor, grads)


def mean_loss_and_grads(
  windows: tf.Tensor,
  params: Params,
  config: GPTConfig,
  compute_dtype: str,
  rng: tf.Tensor | None,
) -> tuple[tf.Tensor, Params]:  # int [A, B, T + 1] -> [], f32 tree
  """`loss_and_grads` averaged over A batches, in the memory of one."""
  n = windows.shape[0]

  def one(i):
    return loss_and_grads(
      tf.gather(windows, i), params, config, compute_dtype, fold(rng, i)
    )

  if n == 1:
    return one(0)
  zeros = (tf.zeros([]), tf.nest.map_structure(tf.zeros_like, params))
  total = tf.while_loop(
    lambda i, *_: i < n,
    lambda i, *sums: (i + 1, *tf.nest.map_structure(tf.add, sums, one(i))),
    (0, *zeros),
  )
  return tf.nest.map_structure(lambda x: x / n, total[1:])


def step_rng(
  step: tf.Tensor, config: GPTConfig, recipe: TrainConfig
) -> tf.Tensor | None:  # int [] -> int32 [2]
  """The seed of a step's dropout; None where nothing is dropped."""
  seed = tf.constant([recipe.seed, 0])
  return fold(seed, step) if config.drop_rate else None


def train_step(
  windows: tf.Tensor, state: TrainState, config: GPTConfig, recipe: TrainConfig
) -> StepMetrics:  # int [A, B, T + 1] -> []
  """Moves `state` on by one optimizer step."""
  step = state.step.read_value()
  rng = step_rng(step, config, recipe)
  loss, grads = mean_loss_and_grads(
    windows, state.params, config, recipe.compute_dtype, rng
  )
  norm = tf.linalg.global_norm(tf.nest.flatten(grads))
  scale = clip_scale(norm, recipe.grad_clip)
  rate = learning_rate(step, recipe)

  def update(param, grad, *moments):
    updated = adamw_update(
      param, scale * grad, Moments(*moments), step, rate, recipe
    )
    for variable, value in zip((param, *moments), updated, strict=True):
      variable.assign(value)

  tf.nest.map_structure(update, state.params, grads, *state.moments)
  state.step.assign(step + 1)
  return StepMetrics(loss, norm, rate)


def compiled_train_steps(
  state: TrainState, config: GPTConfig, recipe: TrainConfig
) -> tf.types.experimental.PolymorphicFunction:
  """One XLA program for the first `n` of K steps; n = 0 only compiles it."""

  @tf.function(jit_compile=True, autograph=False)
  def train_steps(windows, n):  # int [K, A, B, T + 1], int [] -> [K]
    k = windows.shape[0]

    def body(i, metrics):
      now = train_step(tf.gather(windows, i), state, config, recipe)
      at_i = tf.equal(tf.range(k), i)
      return i + 1, tf.nest.map_structure(
        lambda all_, one: tf.where(at_i, one, all_), metrics, now
      )

    start = (0, StepMetrics(*[tf.zeros([k])] * 3))
    return tf.while_loop(lambda i, _: i < n, body, start)[1]

  return train_steps


class Evaluation(NamedTuple):
  loss: float  # nats per token
  accuracy: float  # share of tokens that were the likeliest


def compiled_eval_step(
  params: Params, config: GPTConfig, compute_dtype: str
) -> tf.types.experimental.PolymorphicFunction:
  """One XLA program for the sums over a batch: loss, hits and tokens."""

  @tf.function(jit_compile=True, autograph=False)
  def eval_step(windows, weights):  # int [B, T + 1], f32 [B, T] -> f32 [3]
    logits = gpt(windows[:, :-1], cast(params, compute_dtype), config)
    targets = windows[:, 1:]
    hits = tf.equal(tf.argmax(logits, -1, targets.dtype), targets)
    per_token = [cross_entropy(logits, targets), tf.cast(hits, tf.float32), 1.0]
    return tf.stack([tf.reduce_sum(weights * part) for part in per_token])

  return eval_step


def evaluate(
  eval_step: tf.types.experimental.PolymorphicFunction,
  tokens: np.ndarray,
  context_length: int,
  batch_size: int,
  stride: int = 0,
  limit: int = 0,
) -> Evaluation:
  """Scores the tokens; see `data.eval_batches` for the arguments."""
  sums = np.zeros(3)
  for batch in eval_batches(tokens, context_length, batch_size, stride, limit):
    sums += eval_step(*batch).numpy()
  loss, hits, n_tokens = sums
  return Evaluation(float(loss / n_tokens), float(hits / n_tokens))
