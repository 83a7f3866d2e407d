import dataclasses

import numpy as np
import pytest
import tensorflow as tf

from minigpt.compiler import jit
from minigpt.config import GPTConfig, TrainConfig
from minigpt.kernels import tied_embeddings
from minigpt.model.loss import loss_fn
from minigpt.model.params import named_leaves
from minigpt.model.transformer import GPT, gpt
from minigpt.training import optimizers, step
from minigpt.training.state import TrainState
from minigpt.training.validation import compiled_eval_step, evaluate

CONFIG = GPTConfig(17, 8, 16, 2, 1, drop_rate=0.0, init_std=0.2)
RECIPE = TrainConfig(steps=20, warmup_steps=2, learning_rate=1e-2)


def windows(*shape, seed=0):
  return np.random.default_rng(seed).integers(0, 17, [*shape, 9], np.int32)


@pytest.fixture(scope='module')
def steps_of_three():
  state = TrainState(GPT(CONFIG))
  return state, step.compiled_train_steps(state, CONFIG, RECIPE)


@pytest.fixture
def fresh(steps_of_three):
  """Returns the compiled steps, with the state reset to its beginning."""
  state, train_steps = steps_of_three
  blank = TrainState(GPT(CONFIG))
  for old, new in zip(state.variables, blank.variables, strict=True):
    old.assign(new)
  return state, train_steps


def eager_step(batch, state, config=CONFIG, recipe=RECIPE):
  return step.train_step(tf.constant(batch), state, config, recipe)


def test_compiled_steps_equal_eager_steps(fresh):
  state, train_steps = fresh
  batch = windows(3, 1, 4)
  metrics = train_steps(batch, np.int32(3))
  eager = TrainState(GPT(CONFIG))
  for i in range(3):
    expected = eager_step(batch[i], eager)
    for name, value in expected._asdict().items():
      found = getattr(metrics, name)[i]
      np.testing.assert_allclose(found, value, rtol=1e-4, err_msg=name)
  assert state.step.numpy() == 3
  for name, leaf in named_leaves(state.params).items():
    expected = named_leaves(eager.params)[name]
    np.testing.assert_allclose(leaf, expected, 1e-3, 1e-5, err_msg=name)


@pytest.mark.parametrize(
  ('mode', 'optimizer'),
  [('hybrid', 'adamw'), ('hybrid', 'muon'), ('graph', 'muon')],
)
def test_steps_are_the_same_however_they_are_compiled(mode, optimizer):
  config = dataclasses.replace(CONFIG, drop_rate=0.1)
  batch = windows(3, 2, 4)
  eager, state = (TrainState(GPT(config)) for _ in range(2))
  recipe = dataclasses.replace(
    RECIPE, compile=mode, grad_accum=2, optimizer=optimizer
  )
  train_steps = step.compiled_train_steps(state, config, recipe)
  assert train_steps(batch, np.int32(0)).loss.numpy().tolist() == [0, 0, 0]
  metrics = train_steps(batch, np.int32(3))
  expected = [eager_step(each, eager, config, recipe) for each in batch]
  losses = [each.loss for each in expected]
  np.testing.assert_allclose(metrics.loss, losses, rtol=1e-4)
  assert state.step.numpy() == 3
  for name, leaf in named_leaves(state.params).items():
    expected = named_leaves(eager.params)[name]
    np.testing.assert_allclose(leaf, expected, 1e-3, 1e-5, err_msg=name)


@pytest.mark.parametrize('mode', ['xla', 'graph'])
def test_every_program_of_a_run_is_compiled_as_asked(mode):
  state = TrainState(GPT(CONFIG))
  recipe = dataclasses.replace(RECIPE, compile=mode)
  batch, leaves = windows(1, 4), tf.nest.flatten(state.params)
  programs = [
    (step.compiled_train_steps(state, CONFIG, recipe), (batch[None], 0)),
    (step.compiled_gradients(state, CONFIG, recipe), (batch, 0)),
    (step.compiled_update(state, CONFIG, recipe), (0.0, leaves)),
    (
      compiled_eval_step(state.params, CONFIG, 'float32', mode),
      (batch[0], np.ones([4, 8], np.float32)),
    ),
  ]
  for program, arguments in programs:
    given = tf.nest.map_structure(tf.convert_to_tensor, arguments)
    made = program.get_concrete_function(*given).function_def.attr
    assert made['_XlaMustCompile'].b == (mode == 'xla')


def test_bfloat16_in_hybrid_mode_is_near_float32():
  batch = windows(1, 1, 4)
  losses = []
  for dtype in ('float32', 'bfloat16'):
    recipe = dataclasses.replace(RECIPE, compile='hybrid', compute_dtype=dtype)
    state = TrainState(GPT(CONFIG))
    train_steps = step.compiled_train_steps(state, CONFIG, recipe)
    losses.append(train_steps(batch, np.int32(1)).loss.numpy()[0])
  assert 0 < abs(losses[1] / losses[0] - 1) < 2e-2


def test_one_call_of_three_is_three_calls_of_one(fresh):
  state, train_steps = fresh
  batch = windows(3, 1, 4)
  train_steps(batch, np.int32(3))
  in_one = [v.numpy() for v in state.variables]
  blank = TrainState(GPT(CONFIG))
  for old, new in zip(state.variables, blank.variables, strict=True):
    old.assign(new)
  for i in range(3):
    train_steps(np.roll(batch, -i, axis=0), np.int32(1))
  for a, b in zip(in_one, state.variables, strict=True):
    np.testing.assert_array_equal(a, b)


def test_no_steps_change_nothing(fresh):
  state, train_steps = fresh
  before = [v.numpy() for v in state.variables]
  train_steps(windows(3, 1, 4), np.int32(0))
  for a, b in zip(before, state.variables, strict=True):
    np.testing.assert_array_equal(a, b)


def test_accumulated_gradients_are_those_of_the_whole_batch():
  p = GPT(CONFIG).params
  batch = windows(3, 2)
  loss, grads = step.mean_loss_and_grads(
    tf.constant(batch), p, CONFIG, 'float32', None
  )
  whole_loss, whole = step.loss_and_grads(
    tf.reshape(batch, [6, 9]), p, CONFIG, 'float32', None
  )
  np.testing.assert_allclose(loss, whole_loss, rtol=1e-6)
  for name, grad in named_leaves(grads).items():
    expected = named_leaves(whole)[name]
    np.testing.assert_allclose(grad, expected, 1e-4, 1e-6, err_msg=name)


def test_bfloat16_is_near_float32_and_gives_gradients_as_small():
  p = GPT(CONFIG).params
  batch = tf.constant(windows(4))
  loss, grads = jit.compiled(
    lambda batch: step.loss_and_grads(batch, p, CONFIG, 'bfloat16', None)
  )(batch)
  expected = loss_fn(batch, p, CONFIG)
  np.testing.assert_allclose(loss, expected, rtol=2e-2)
  assert abs(loss.numpy() - expected.numpy()) > 0
  # Except those of tied embeddings, a sum, and of gains and biases.
  assert grads.wte.dtype == tf.float32
  for grad in tf.nest.flatten(grads._replace(wte=())):
    is_matrix = grad.shape.rank > 1
    assert grad.dtype == (tf.bfloat16 if is_matrix else tf.float32)


def test_rows_are_added_to_a_gradient_in_float32():
  """In bfloat16, 300 + 1 would be 300."""
  total = tf.constant([[300.0], [4.0], [5.0]], tf.bfloat16)
  ones = tf.ones([300, 1], tf.bfloat16)
  rows = tf.IndexedSlices(ones, tf.constant([0] * 299 + [2]))
  np.testing.assert_array_equal(
    tied_embeddings.add_rows(total, rows), [[599], [4], [6]]
  )


@pytest.mark.parametrize('mode', ['xla', 'graph'])
def test_tied_embeddings_have_the_gradient_of_both_uses(mode):
  p = GPT(CONFIG).params
  apart = p._replace(head=tf.Variable(p.wte))

  def gradients(windows, p):
    return step.loss_and_grads(windows, p, CONFIG, 'float32', None)[1]

  batch = tf.constant(windows(4))
  found = jit.compiled(lambda w: gradients(w, p), mode)(batch)
  parts = gradients(batch, apart)
  assert parts.wte.numpy().any() and parts.head.numpy().any()
  assert tuple(found.head) == ()
  np.testing.assert_allclose(
    found.wte, parts.wte + parts.head, rtol=1e-4, atol=1e-6
  )


def test_gradients_in_bfloat16_are_added_and_clipped_in_float32():
  p = GPT(CONFIG).params
  batch = tf.constant(windows(300, 1))

  def gradients(dtype):
    run = jit.compiled(step.mean_loss_and_grads, 'graph')
    return run(batch, p, CONFIG, dtype, None)[1]

  grads, expected = gradients('bfloat16'), gradients('float32')
  assert {g.dtype for g in tf.nest.flatten(grads)} == {tf.float32}
  norms = [optimizers.global_norm(tree).numpy() for tree in (grads, expected)]
  np.testing.assert_allclose(norms[0], norms[1], rtol=2e-2)
  halves = tf.nest.map_structure(lambda g: tf.cast(g, tf.bfloat16), expected)
  found = jit.compiled(optimizers.global_norm, 'hybrid')(halves)
  np.testing.assert_allclose(found, norms[1], rtol=2e-3)


def test_large_gradients_are_clipped():
  recipe = TrainConfig(grad_clip=1e-4, weight_decay=0.0, warmup_steps=0)
  batch = windows(1, 4)
  clipped = TrainState(GPT(CONFIG))
  norm = eager_step(batch, clipped, recipe=recipe).grad_norm.numpy()
  assert norm > 1e-2  # reported as it was
  mu = tf.linalg.global_norm(tf.nest.flatten(clipped.moments.mu)).numpy()
  np.testing.assert_allclose(mu, 0.1 * 1e-4, rtol=1e-3)


def test_dropout_differs_between_steps_but_not_between_runs():
  config = GPTConfig(17, 8, 16, 2, 1, drop_rate=0.5)
  still = TrainConfig(warmup_steps=0, learning_rate=1e-12, min_learning_rate=0)
  batch = windows(1, 4)

  def losses(seed):
    state = TrainState(GPT(config))
    recipe = TrainConfig(**{**vars(still), 'seed': seed})
    return [
      eager_step(batch, state, config, recipe).loss.numpy() for _ in range(2)
    ]

  first = losses(0)
  assert first[0] != first[1]
  assert first == losses(0)
  assert first[0] != losses(1)[0]


def test_evaluation_is_the_mean_over_all_tokens():
  p = GPT(CONFIG).params
  tokens = np.random.default_rng(1).integers(0, 17, 30)
  eval_step = compiled_eval_step(p, CONFIG, 'float32')
  found = evaluate(eval_step, tokens, 8, 3)
  losses, hits = [], []
  for start in range(0, 29, 8):
    window = tf.constant(tokens[start : start + 9][None], tf.int32)
    n = window.shape[1] - 1
    losses.append(n * loss_fn(window, p, CONFIG).numpy())
    logits = gpt(window[:, :-1], p, CONFIG)
    hits.append(np.sum(np.argmax(logits, -1) == window[:, 1:]))
  np.testing.assert_allclose(found.loss, sum(losses) / 29, rtol=1e-5)
  np.testing.assert_allclose(found.accuracy, sum(hits) / 29, rtol=1e-6)
