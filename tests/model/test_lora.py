"""Adapters: neutral at first, the only ones trained, and merged exactly."""

import dataclasses
import pathlib
import shutil

import numpy as np
import pytest
import tensorflow as tf

from minigpt import tokenizers
from minigpt.checkpoints import checkpoint, loading, workdir
from minigpt.config import DataConfig, GPTConfig, Settings, TrainConfig
from minigpt.errors import InputError
from minigpt.model import lora, params
from minigpt.model.kv_cache import cached_gpt, empty_caches
from minigpt.model.transformer import GPT, gpt, hidden_states
from minigpt.training import step as training
from minigpt.training import validation
from minigpt.training.run_setup import prepare
from minigpt.training.trainer import Trainer

CONFIG = GPTConfig(
  vocab_size=9,
  context_length=12,
  emb_dim=8,
  n_heads=2,
  n_layers=2,
  drop_rate=0.0,
  init_std=0.3,
)
RECIPE = TrainConfig(
  steps=6,
  warmup_steps=0,
  learning_rate=1e-2,
  batch_size=4,
  eval_every=3,
  compile='graph',
  optimizer='muon',
  init_from='set by the fixture',
  lora_rank=2,
  lora_alpha=6.0,
)
TEXT = 'abcdefgh ' * 30
TOKENS = np.random.default_rng(0).integers(0, 9, [3, 12], np.int32)


@pytest.fixture(scope='module')
def model():
  return GPT(CONFIG, seed=4)


@pytest.fixture(scope='module')
def adapters():
  return lora.init_adapters(CONFIG, 2, seed=1)


@pytest.fixture(scope='module')
def busy(adapters):
  """Adapters with values as after training."""
  return tf.nest.map_structure(
    lambda x: x + tf.random.stateless_normal(x.shape, [1, 2]), adapters
  )


def test_fresh_adapters_change_no_bit_of_the_logits(model, adapters):
  attached = lora.attach(model.params, adapters, 3.0)
  compiled = tf.function(
    lambda p: gpt(TOKENS, p, CONFIG), jit_compile=True, autograph=False
  )
  for run in (lambda p: gpt(TOKENS, p, CONFIG), compiled):
    assert (
      run(attached).numpy().tobytes() == run(model.params).numpy().tobytes()
    )


def test_merged_equals_unmerged(model, busy):
  attached = gpt(TOKENS, lora.attach(model.params, busy, 3.0), CONFIG).numpy()
  merged = gpt(TOKENS, lora.merge(model.params, busy, 3.0), CONFIG).numpy()
  plain = gpt(TOKENS, model.params, CONFIG).numpy()
  assert np.abs(attached - plain).max() > 0.1
  assert np.abs(attached - merged).max() < 1e-5 * np.abs(merged).max()


def test_adapters_work_in_cached_decoding(model, busy):
  p = lora.attach(model.params, busy, 3.0)
  caches = empty_caches(3, 12, CONFIG)
  found, _ = cached_gpt(TOKENS, p, CONFIG, caches, tf.zeros([3], tf.int32))
  want = hidden_states(TOKENS, p, CONFIG)
  np.testing.assert_allclose(found, want, rtol=1e-4, atol=1e-5)


def test_the_number_of_parameters_that_train(adapters):
  # c_attn 8 -> 24, c_proj 8 -> 8, c_fc 8 -> 32, c_proj 32 -> 8, two blocks.
  assert params.count(adapters) == 2 * 2 * (32 + 16 + 40 + 40)
  big = GPTConfig()
  # By hand for GPT-2 124M at rank 8: 12 x 8 x (3072 + 1536 + 3840 + 3840).
  n = 12 * 8 * (3072 + 1536 + 3840 + 3840)
  assert params.count(lora.init_adapters(big, 8)) == n == 1_179_648


def test_only_adapters_train_and_their_gradient_is_that_of_merging(model, busy):
  windows = tf.constant(np.concatenate([TOKENS, TOKENS[:, :1]], 1))

  def grads(whole):
    return training.loss_and_grads(
      windows, busy_variables, CONFIG, 'float32', None, whole
    )[1]

  busy_variables = tf.nest.map_structure(tf.Variable, busy)
  found = grads(lambda a: lora.attach(model.params, a, 3.0))
  want = grads(lambda a: lora.merge(model.params, a, 3.0))
  for name, leaf in params.named_leaves(want).items():
    got = params.named_leaves(found)[name]
    np.testing.assert_allclose(got, leaf, rtol=1e-3, atol=1e-5, err_msg=name)


@pytest.fixture(scope='module')
def source(tmp_path_factory, model):
  path = tmp_path_factory.mktemp('source') / 'model'
  tokenizer = tokenizers.build('char', TEXT)
  workdir.write(path, CONFIG, model.params, tokenizer)
  return path, tokenizer


def a_run(path, source, text):
  text_file = path.parent / 'text.txt'
  text_file.write_text(text)
  settings = Settings(
    dataclasses.asdict(CONFIG),
    DataConfig(dataset=str(text_file)),
    dataclasses.replace(RECIPE, init_from=str(source[0])),
  )
  config, data, _ = prepare(settings, source[1])
  if not workdir.holds_run(path):
    workdir.create(path, config, data.tokenizer)
  run = Trainer(path, config, data)
  run.restore()
  return run


@pytest.fixture(scope='module')
def trained(tmp_path_factory, source):
  run = a_run(tmp_path_factory.mktemp('runs') / 'run', source, TEXT)
  run.train()
  return run


def test_training_leaves_the_frozen_weights_to_the_bit(trained, model):
  wanted = params.named_leaves(model.params)
  for name, leaf in params.named_leaves(trained.model.params).items():
    assert leaf.numpy().tobytes() == wanted[name].numpy().tobytes(), name
  moved = params.named_leaves(trained.state.params)
  assert all(np.abs(leaf).max() > 1e-3 for leaf in moved.values())


def test_a_checkpoint_holds_only_adapters(trained):
  found = checkpoint.list_checkpoints(workdir.checkpoints(trained.path))[-1]
  state = tf.train.load_checkpoint(str(found.path / 'state'))
  shapes = [
    shape
    for name, shape in state.get_variable_to_shape_map().items()
    if name.startswith('params')
  ]
  assert sum(np.prod(shape) for shape in shapes) == 512
  assert [9, 8] not in shapes  # Adapters leave out the token embeddings.


def test_a_run_reads_back_merged_and_continues(trained, source):
  read = loading.load_trained(trained.path)
  assert read.checkpoint.step == 6
  want = gpt(TOKENS, trained.state.full_params(trained.state.params), CONFIG)
  found = gpt(TOKENS, read.model.params, CONFIG)
  np.testing.assert_allclose(found, want, rtol=1e-4, atol=1e-5)
  step = validation.compiled_eval_step(read.model.params, CONFIG, 'float32')
  loss = validation.evaluate(step, trained.data.val, 12, 4).loss
  np.testing.assert_allclose(trained.evaluate()['val_loss'], loss, rtol=1e-4)
  assert 'adapter' not in ' '.join(params.named_leaves(read.model.params))
  again = a_run(trained.path, source, TEXT)
  assert again.step == 6
  for a, b in zip(again.state.variables, trained.state.variables, strict=True):
    np.testing.assert_array_equal(a, b)


def test_adapters_are_refused_beside_other_weights(trained, source, model):
  aside = source[0].with_name('aside')
  source[0].rename(aside)
  other = GPT(CONFIG, seed=5)
  try:
    with pytest.raises(InputError, match='model'):
      loading.load_trained(trained.path)
    workdir.write(source[0], CONFIG, other.params, source[1])
    with pytest.raises(InputError, match='no longer the model'):
      loading.load_trained(trained.path)
  finally:
    shutil.rmtree(source[0], ignore_errors=True)
    pathlib.Path(aside).rename(source[0])
