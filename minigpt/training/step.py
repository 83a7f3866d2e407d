"""The training step (loss, gradient, update) and its compiled programs.

Shapes: K steps in a call, A accumulated gradients, B batch, T context.
"""

from collections.abc import Callable
from typing import NamedTuple, TypeAlias

import tensorflow as tf

from minigpt.compiler import backend, barriers, jit
from minigpt.config import GPTConfig, TrainConfig
from minigpt.data.sequence_packing import PackedBatch
from minigpt.kernels.elementwise import accumulate
from minigpt.model.hooks import Hook, no_hook
from minigpt.model.layers import fold_in
from minigpt.model.loss import loss_fn, value_and_grad
from minigpt.model.params import Params, cast
from minigpt.training.optimizers import (
  Moments,
  UpdateRule,
  clip_scale,
  global_norm,
  update,
  update_rules,
)
from minigpt.training.schedules import learning_rate
from minigpt.training.state import Trainable, TrainState

# Windows of running text, or packed examples.
Batch: TypeAlias = tf.Tensor | PackedBatch


class StepMetrics(NamedTuple):
  """The metrics of a step, float32 [] each; [K] for the steps of a call."""

  loss: tf.Tensor  # nats per token
  grad_norm: tf.Tensor  # before clipping
  learning_rate: tf.Tensor


def batch_loss(
  batch: Batch,
  params: Params,
  config: GPTConfig,
  rng: tf.Tensor | None,
  hook: Hook = no_hook,
) -> tf.Tensor:  # int [B, T + 1] -> []
  """Computes the loss of windows, or of packed examples."""
  if isinstance(batch, PackedBatch):
    windows, weights, segments = batch
    return loss_fn(windows, params, config, rng, hook, weights, segments)
  return loss_fn(batch, params, config, rng, hook)


def identity(params: Trainable) -> Trainable:
  """Returns `params`: where the whole model trains."""
  return params


def loss_and_grads(
  windows: Batch,
  params: Trainable,
  config: GPTConfig,
  compute_dtype: str,
  rng: tf.Tensor | None,
  full_params: Callable[[Trainable], Trainable] = identity,
) -> tuple[tf.Tensor, Trainable]:  # int [B, T + 1] -> [], compute_dtype tree
  """Returns the loss and its gradient; casts each weight once.

  Gradients of gains and biases are float32.

  Args:
    windows: the batch.
    params: the trainable parameters.
    config: of the model.
    compute_dtype: dtype of matmuls.
    rng: int32 [2], seed of the dropout; None: no dropout.
    full_params: returns the whole model, given the trainable parameters.
  """

  def loss(trainable: Trainable) -> tf.Tensor:
    model = cast(full_params(trainable), compute_dtype)
    return batch_loss(windows, model, config, rng)

  return value_and_grad(loss, cast(params, compute_dtype))


def mean_loss_and_grads(
  windows: Batch,
  params: Trainable,
  config: GPTConfig,
  compute_dtype: str,
  rng: tf.Tensor | None,
  full_params: Callable[[Trainable], Trainable] = identity,
) -> tuple[tf.Tensor, Trainable]:  # int [A, B, T + 1] -> [], tree
  """Averages `loss_and_grads` over A batches, with the activations of one.

  Gradients of several batches are summed in float32.
  """
  n = tf.nest.flatten(windows)[0].shape[0]

  def one(i):
    batch = _at(windows, i)
    return loss_and_grads(
      batch, params, config, compute_dtype, fold_in(rng, i), full_params
    )

  if n == 1:
    return one(0)
  zeros = (tf.zeros([]), tf.nest.map_structure(tf.zeros_like, params))

  def add(i, *sums):
    return i + 1, *tf.nest.map_structure(accumulate, sums, one(i))

  total = tf.while_loop(lambda i, *_: i < n, add, (0, *zeros))
  return tf.nest.map_structure(lambda x: x / n, total[1:])


def _at(windows: Batch, i: tf.Tensor) -> Batch:
  return tf.nest.map_structure(lambda part: tf.gather(part, i), windows)


def step_rng(
  step: tf.Tensor, config: GPTConfig, recipe: TrainConfig
) -> tf.Tensor | None:  # int [] -> int32 [2]
  """Returns the seed of a step's dropout; None if the model has no dropout."""
  seed = tf.constant([recipe.seed, 0])
  return fold_in(seed, step) if config.drop_rate else None


def train_step(
  windows: Batch, state: TrainState, config: GPTConfig, recipe: TrainConfig
) -> StepMetrics:  # int [A, B, T + 1] -> []
  """Makes one training step: computes the gradient and updates `state`."""
  rng = step_rng(state.step.read_value(), config, recipe)
  loss, grads = mean_loss_and_grads(
    windows, state.params, config, recipe.compute_dtype, rng, state.full_params
  )
  return apply_gradients(loss, grads, state, recipe)


def apply_gradients(
  loss: tf.Tensor, grads: Trainable, state: TrainState, recipe: TrainConfig
) -> StepMetrics:
  """Clips the gradients and updates `state` with them."""
  step = state.step.read_value()
  norm = global_norm(grads)
  scale = clip_scale(norm, recipe.grad_clip)
  rate = learning_rate(step, recipe)

  def move(rule: UpdateRule, param, grad, *moments):
    moved = update(
      param,
      grad,
      Moments(*moments),
      step,
      rate,
      scale,
      config=recipe,
      rule=rule,
    )
    for variable, value in zip((param, *moments), moved, strict=True):
      variable.assign(value)

  rules = update_rules(state.params, recipe)
  tf.nest.map_structure(move, rules, state.params, grads, *state.moments)
  state.step.assign(step + 1)
  return StepMetrics(loss, norm, rate)


def compiled_train_steps(
  state: TrainState, config: GPTConfig, recipe: TrainConfig
) -> tf.types.experimental.PolymorphicFunction:
  """Returns a program that makes the first n of K steps; 0 only compiles it."""

  def train_steps(windows, n):  # int [K, A, B, T + 1], int [] -> [K]
    k = tf.nest.flatten(windows)[0].shape[0]

    def body(i, metrics):
      # With K = 1, the batch would be constant in the loop. XLA would then move
      # the computations of frozen layers out of the loop, and fail to merge
      # them with the same computations in their gradient.
      iteration = tf.cast(i, tf.float32)[None]
      batch = tf.nest.map_structure(
        lambda part: barriers.depend_on(part, iteration), _at(windows, i)
      )
      now = train_step(batch, state, config, recipe)
      at_i = tf.equal(tf.range(k), i)
      return i + 1, tf.nest.map_structure(
        lambda all_, one: tf.where(at_i, one, all_), metrics, now
      )

    start = (0, StepMetrics(*[tf.zeros([k])] * 3))
    return tf.while_loop(lambda i, _: i < n, body, start)[1]

  return jit.compiled(train_steps, compile_mode(recipe))


def compile_mode(recipe: TrainConfig) -> str:
  """Resolves `--compile=auto` for training."""
  return backend.resolve_mode(recipe.compile, recipe.compute_dtype, trains=True)


def compiled_gradients(
  state: TrainState, config: GPTConfig, recipe: TrainConfig
) -> tf.types.experimental.PolymorphicFunction:
  """Returns a program for the gradient of a replica's shard of a batch."""

  def gradients(windows, replica):  # int [A, B, T + 1], int [] -> [], [leaf]
    rng = fold_in(step_rng(state.step, config, recipe), replica)
    loss, grads = mean_loss_and_grads(
      windows,
      state.params,
      config,
      recipe.compute_dtype,
      rng,
      state.full_params,
    )
    return loss, [tf.cast(g, tf.float32) for g in tf.nest.flatten(grads)]

  return jit.compiled(gradients, compile_mode(recipe))


def compiled_update(
  state: TrainState, config: GPTConfig, recipe: TrainConfig
) -> tf.types.experimental.PolymorphicFunction:
  """Returns a program that updates the state with the reduced gradients."""

  def update(loss, leaves):
    grads = tf.nest.pack_sequence_as(state.params, leaves)
    return apply_gradients(loss, grads, state, recipe)

  return jit.compiled(update, compile_mode(recipe))
