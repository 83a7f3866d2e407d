"""Training: the step, the evaluation, and the loop around them.

Shapes: K steps in a call, A accumulated gradients, B batch, T context.
"""

from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from minigpt.compiler import backend, barriers, jit
from minigpt.config import GPTConfig, TrainConfig
from minigpt.data.batches import EvalBatch, eval_batches
from minigpt.data.sequence_packing import PackedBatch
from minigpt.kernels.elementwise import accumulate
from minigpt.model.hooks import Hook, no_hook
from minigpt.model.layers import cross_entropy, fold_in
from minigpt.model.lora import Adapters, attach
from minigpt.model.loss import loss_fn, value_and_grad
from minigpt.model.params import Params, cast
from minigpt.model.transformer import GPT, gpt
from minigpt.training.optimizers import (
  Moments,
  clip_scale,
  directions,
  global_norm,
  learning_rate,
  update,
)

# What the optimizer moves.
Trained = Params | Adapters
# Windows of running text, or rows of several texts.
Batch = tf.Tensor | PackedBatch


class TrainState(tf.Module):
  """All that a step reads and changes; a checkpoint holds just this."""

  def __init__(
    self, model: GPT, adapters: Adapters = (), adapter_scale: float = 1.0
  ):
    """Trains the adapters where there are any, else the whole model."""
    super().__init__(name='train_state')
    self.params = adapters or model.params
    self.frozen = model.params if adapters else ()
    self.adapter_scale = adapter_scale
    self.moments = Moments(_zeros_like(self.params), _zeros_like(self.params))
    self.step = tf.Variable(0, dtype=tf.int64)

  def whole(self, trained: Trained) -> Params:
    """The model around what trains."""
    if not self.frozen:
      return trained
    return attach(self.frozen, trained, self.adapter_scale)

  def parts(self) -> dict[str, Any]:
    """The variables, by the names that a checkpoint gives their trees."""
    return {'params': self.params, 'moments': self.moments, 'step': self.step}

  def checkpoint(self) -> tf.train.Checkpoint:
    return tf.train.Checkpoint(**self.parts())


def _zeros_like(params: Trained) -> Trained:
  return tf.nest.map_structure(lambda p: tf.Variable(tf.zeros_like(p)), params)


class StepMetrics(NamedTuple):
  """What one step reports, f32 [] each; [K] for the steps of a call."""

  loss: tf.Tensor  # nats per token
  grad_norm: tf.Tensor  # before clipping
  learning_rate: tf.Tensor


def batch_loss(
  batch: Batch,
  params: Params,
  config: GPTConfig,
  rng: tf.Tensor | None,
  hook: Hook = no_hook,
) -> tf.Tensor:
  if isinstance(batch, PackedBatch):
    windows, weights, segments = batch
    return loss_fn(windows, params, config, rng, hook, weights, segments)
  return loss_fn(batch, params, config, rng, hook)


def _itself(trained: Trained) -> Trained:
  return trained


def loss_and_grads(
  windows: Batch,
  params: Trained,
  config: GPTConfig,
  compute_dtype: str,
  rng: tf.Tensor | None,
  whole: Callable[[Trained], Params] = _itself,
) -> tuple[tf.Tensor, Trained]:  # int [B, T + 1] -> [], compute_dtype tree
  """Returns the loss and its gradient; each weight is cast once.

  Gradients of gains and biases are float32.

  Args:
    whole: makes the model of what trains.
  """

  def loss(trained: Trained) -> tf.Tensor:
    model = cast(whole(trained), compute_dtype)
    return batch_loss(windows, model, config, rng)

  return value_and_grad(loss, cast(params, compute_dtype))


def mean_loss_and_grads(
  windows: Batch,
  params: Trained,
  config: GPTConfig,
  compute_dtype: str,
  rng: tf.Tensor | None,
  whole: Callable[[Trained], Params] = _itself,
) -> tuple[tf.Tensor, Trained]:  # int [A, B, T + 1] -> [], tree
  """`loss_and_grads` averaged over A batches, in the memory of one.

  Those of several are added in f32.
  """
  n = tf.nest.flatten(windows)[0].shape[0]

  def one(i):
    batch = _at(windows, i)
    return loss_and_grads(
      batch, params, config, compute_dtype, fold_in(rng, i), whole
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
  """The seed of a step's dropout; None where nothing is dropped."""
  seed = tf.constant([recipe.seed, 0])
  return fold_in(seed, step) if config.drop_rate else None


def train_step(
  windows: Batch, state: TrainState, config: GPTConfig, recipe: TrainConfig
) -> StepMetrics:  # int [A, B, T + 1] -> []
  """Moves `state` on by one optimizer step."""
  rng = step_rng(state.step.read_value(), config, recipe)
  loss, grads = mean_loss_and_grads(
    windows, state.params, config, recipe.compute_dtype, rng, state.whole
  )
  return apply_gradients(loss, grads, state, recipe)


def apply_gradients(
  loss: tf.Tensor, grads: Trained, state: TrainState, recipe: TrainConfig
) -> StepMetrics:
  """Clips the gradients and moves `state` on by them."""
  step = state.step.read_value()
  norm = global_norm(grads)
  scale = clip_scale(norm, recipe.grad_clip)
  rate = learning_rate(step, recipe)

  def move(direction, param, grad, *moments):
    moved = update(
      param,
      grad,
      Moments(*moments),
      step,
      rate,
      scale,
      config=recipe,
      direction=direction,
    )
    for variable, value in zip((param, *moments), moved, strict=True):
      variable.assign(value)

  rules = directions(state.params, recipe)
  tf.nest.map_structure(move, rules, state.params, grads, *state.moments)
  state.step.assign(step + 1)
  return StepMetrics(loss, norm, rate)


def compiled_train_steps(
  state: TrainState, config: GPTConfig, recipe: TrainConfig
) -> tf.types.experimental.PolymorphicFunction:
  """One program for the first `n` of K steps; n = 0 only compiles it."""

  def train_steps(windows, n):  # int [K, A, B, T + 1], int [] -> [K]
    k = tf.nest.flatten(windows)[0].shape[0]

    def body(i, metrics):
      # A single batch would be constant in the loop: XLA would move what frozen
      # layers make of it out, and not see that their gradient makes it, too.
      turn = tf.cast(i, tf.float32)[None]
      batch = tf.nest.map_structure(
        lambda part: barriers.depend_on(part, turn), _at(windows, i)
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
  """What `--compile` comes to."""
  return backend.resolve_mode(recipe.compile, recipe.compute_dtype, trains=True)


def compiled_gradients(
  state: TrainState, config: GPTConfig, recipe: TrainConfig
) -> tf.types.experimental.PolymorphicFunction:
  """One program for what a replica makes of its share of a batch."""

  def gradients(windows, replica):  # int [A, B, T + 1], int [] -> [], [leaf]
    rng = fold_in(step_rng(state.step, config, recipe), replica)
    loss, grads = mean_loss_and_grads(
      windows, state.params, config, recipe.compute_dtype, rng, state.whole
    )
    return loss, [tf.cast(g, tf.float32) for g in tf.nest.flatten(grads)]

  return jit.compiled(gradients, compile_mode(recipe))


def compiled_update(
  state: TrainState, config: GPTConfig, recipe: TrainConfig
) -> tf.types.experimental.PolymorphicFunction:
  """One program for what is done with the gradients of all replicas."""

  def update(loss, leaves):
    grads = tf.nest.pack_sequence_as(state.params, leaves)
    return apply_gradients(loss, grads, state, recipe)

  return jit.compiled(update, compile_mode(recipe))


class Evaluation(NamedTuple):
  loss: float  # nats per token
  accuracy: float  # share of tokens that were the likeliest


def compiled_eval_step(
  params: Params, config: GPTConfig, compute_dtype: str, compile: str = 'auto'
) -> tf.types.experimental.PolymorphicFunction:
  """One program for the sums over a batch: loss, hits and tokens."""

  def eval_step(windows, weights, segments=None):  # [B, T + 1], [B, T] -> [3]
    p = cast(params, compute_dtype)
    logits = gpt(windows[:, :-1], p, config, segments=segments)
    targets = windows[:, 1:]
    hits = tf.equal(tf.argmax(logits, -1, targets.dtype), targets)
    per_token = [cross_entropy(logits, targets), tf.cast(hits, tf.float32), 1.0]
    return tf.stack([tf.reduce_sum(weights * part) for part in per_token])

  return jit.compiled(eval_step, backend.resolve_mode(compile, compute_dtype))


def evaluate(
  eval_step: tf.types.experimental.PolymorphicFunction,
  tokens: np.ndarray,
  context_length: int,
  batch_size: int,
  stride: int = 0,
  limit: int = 0,
) -> Evaluation:
  """Scores the tokens; see `data.eval_batches` for the arguments."""
  return evaluate_batches(
    eval_step, eval_batches(tokens, context_length, batch_size, stride, limit)
  )


def evaluate_batches(
  eval_step: tf.types.experimental.PolymorphicFunction,
  batches: Iterable[EvalBatch | PackedBatch],
  total: Callable[[np.ndarray], np.ndarray] = np.asarray,
) -> Evaluation:
  """Scores the batches; `total` adds the sums of others who share them."""
  sums = np.zeros(3)
  for batch in batches:
    sums += eval_step(*batch).numpy()
  loss, hits, n_tokens = total(sums)
  return Evaluation(float(loss / n_tokens), float(hits / n_tokens))
