import numpy as np
import pytest
import tensorflow as tf

from minigpt.compiler import jit
from minigpt.config import COMPILE_MODES, GPTConfig, get_preset
from minigpt.errors import UsageError
from minigpt.model import params
from minigpt.model.kv_cache import cached_gpt, empty_caches
from minigpt.model.loss import loss_fn
from minigpt.model.transformer import GPT, gpt, hidden_states

SPECIFICATION = {
  'vocab_size': 50257,
  'context_length': 1024,
  'emb_dim': 768,
  'n_heads': 12,
  'n_layers': 12,
  'drop_rate': 0.1,
  'qkv_bias': False,
}


@pytest.mark.parametrize(
  ('changes', 'n_params'),
  [
    ({}, 124_412_160),
    ({'tie_embeddings': False}, 163_009_536),
    ({'qkv_bias': True}, 124_439_808),
  ],
)
def test_the_124m_model_has_gpt2s_parameter_count(changes, n_params):
  config = GPTConfig(**{**SPECIFICATION, **changes})
  assert params.count(params.specs(config)) == n_params
  preset = GPTConfig(**{**get_preset('gpt2-124m').model, **changes})
  assert preset == config


def test_the_fast_preset_trains_a_model_of_the_same_shapes():
  names = ('shakespeare-char', 'shakespeare-char-fast')
  usual, fast = (
    params.specs(GPTConfig(65, **get_preset(name).model)) for name in names
  )
  assert usual == fast
  assert params.count(fast) == 804_096


def test_variables_are_those_of_the_specs(model, config):
  specs = params.named_leaves(params.specs(config))
  leaves = params.named_leaves(model.params)
  assert list(leaves) == list(specs)
  assert all(leaves[name].shape == specs[name].shape for name in specs)
  assert len(model.trainable_variables) == len(leaves)


def test_initial_weights_depend_on_the_seed_alone(config, model):
  again, other = GPT(config, seed=3), GPT(config, seed=4)
  np.testing.assert_array_equal(again.params.wte, model.params.wte)
  assert (other.params.wte.numpy() != model.params.wte.numpy()).any()
  attn = model.params.blocks[0].attn
  ratio = np.std(attn.c_proj.w) / np.std(attn.c_attn.w)
  assert abs(ratio - 0.5) < 0.1  # 1 / sqrt(2 * n_layers)


def test_an_edited_token_changes_no_earlier_logits(model, config, tokens):
  before = gpt(tokens, model.params, config)
  edited = tokens.numpy()
  edited[:, 7] = (edited[:, 7] + 1) % config.vocab_size
  after = gpt(tf.constant(edited), model.params, config)
  np.testing.assert_array_equal(before[:, :7], after[:, :7])
  assert (before[:, 7:].numpy() != after[:, 7:].numpy()).any(-1).all()


def test_positions_matter(model, config):
  logits = gpt(tf.fill([1, 12], 5), model.params, config)
  assert not np.allclose(logits[0, 0], logits[0, 1])


def test_xla_equals_eager(model, config, tokens):
  compiled = tf.function(gpt, jit_compile=True, autograph=False)
  np.testing.assert_allclose(
    compiled(tokens, model.params, config),
    gpt(tokens, model.params, config),
    rtol=1e-4,
    atol=1e-5,
  )


def test_cached_one_token_at_a_time_equals_full(model, config, tokens):
  full = hidden_states(tokens, model.params, config)
  caches = empty_caches(3, config.context_length, config)
  for t in range(config.context_length):
    hidden, caches = cached_gpt(
      tokens[:, t : t + 1], model.params, config, caches, tf.fill([3], t)
    )
    np.testing.assert_allclose(hidden[:, 0], full[:, t], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize('mode', COMPILE_MODES)
def test_one_token_of_each_row_is_what_it_is_among_all(
  model, config, tokens, mode
):
  only = tf.constant([0, 5, 11])

  def last(only):
    start = tf.zeros([3], tf.int32)
    return cached_gpt(
      tokens, model.params, config, None, start, query_index=only
    )

  found, kept = jit.compiled(last, mode)(only)
  every, full = last(None)
  assert found.shape == [3, 1, config.emb_dim]
  np.testing.assert_allclose(
    found[:, 0], tf.gather(every, only, batch_dims=1), rtol=1e-4, atol=1e-5
  )
  flat = (tf.nest.flatten(caches) for caches in (kept, full))
  for one, other in zip(*flat, strict=True):
    np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-5)


def test_dropout_is_off_without_rng_and_repeats_with_one(tokens):
  config = GPTConfig(17, 12, 16, 2, 1, drop_rate=0.5)
  p = GPT(config).params
  rng = tf.constant([1, 2])
  wet = gpt(tokens, p, config, rng)
  np.testing.assert_array_equal(wet, gpt(tokens, p, config, rng))
  assert not np.allclose(wet, gpt(tokens, p, config))


def test_loss_is_near_log_v_at_the_start():
  config = GPTConfig(100, 8, 32, 2, 1)
  windows = tf.random.stateless_uniform([16, 9], [0, 0], 0, 100, tf.int32)
  loss = loss_fn(windows, GPT(config).params, config)
  assert abs(loss.numpy() - np.log(100)) < 0.05


def test_every_parameter_gets_a_gradient(model, config, tokens):
  with tf.GradientTape() as tape:
    loss = loss_fn(tokens, model.params, config)
  grads = tape.gradient(loss, model.params)
  tf.nest.assert_same_structure(grads, model.params)
  for name, grad in params.named_leaves(grads).items():
    assert np.abs(tf.convert_to_tensor(grad)).max() > 0, name


@pytest.mark.parametrize(
  'bad',
  [
    {'emb_dim': 10, 'n_heads': 3},
    {'vocab_size': 0},
    {'n_layers': -1},
    {'drop_rate': 1.0},
    {'drop_rate': float('nan')},
  ],
)
def test_impossible_shapes_are_refused(bad):
  with pytest.raises(UsageError, match=next(iter(bad))):
    GPTConfig(**bad)
