"""Hooks: what they see, and that unused ones cost nothing."""

import re

import numpy as np
import pytest
import tensorflow as tf

from minigpt.config import GPTConfig
from minigpt.generation import decode
from minigpt.model.hooks import capture, no_hook
from minigpt.model.layers import layernorm
from minigpt.model.loss import loss_fn
from minigpt.model.params import init_params
from minigpt.model.transformer import gpt, hidden_states, unembed

CONFIG = GPTConfig(
  vocab_size=11,
  context_length=6,
  emb_dim=8,
  n_heads=2,
  n_layers=2,
  init_std=0.5,
)
TOKENS = tf.constant([[3, 1, 4, 1, 5], [9, 2, 6, 5, 3]])


@pytest.fixture(scope='module')
def params():
  return init_params(CONFIG, seed=1)


@pytest.fixture(scope='module')
def seen(params):
  return capture(gpt)(TOKENS, params, CONFIG)[1]


def test_every_intermediate_has_its_name_and_shape(seen):
  shapes = {name: tuple(x.shape) for name, x in seen.items()}
  layer = {
    'attn.scores': (2, 2, 5, 5),
    'attn.weights': (2, 2, 5, 5),
    'mlp.hidden': (2, 5, 32),
    'residual': (2, 5, 8),
  }
  assert shapes == {'embedding': (2, 5, 8)} | {
    f'blocks.{i}.{name}': shape
    for i in range(2)
    for name, shape in layer.items()
  }


def test_attention_weights_are_those_computed_by_hand(params, seen):
  x = params.wte.numpy()[TOKENS.numpy()] + params.wpe.numpy()[:5]
  np.testing.assert_allclose(seen['embedding'], x, rtol=1e-6)
  mean, var = x.mean(-1, keepdims=True), x.var(-1, keepdims=True)
  y = (x - mean) / np.sqrt(var + 1e-5)
  qkv = y @ params.blocks[0].attn.c_attn.w.numpy()
  q, k = qkv[..., :8], qkv[..., 8:16]
  for head in range(2):
    part = slice(4 * head, 4 * head + 4)
    scores = np.einsum('btk,bsk->bts', q[..., part], k[..., part]) / 2
    e = np.exp(scores) * np.tri(5)
    weights = e / e.sum(-1, keepdims=True)
    found = seen['blocks.0.attn.weights'][:, head]
    np.testing.assert_allclose(found, weights, atol=1e-5)


def test_attention_rows_sum_to_one_and_ignore_the_future(seen):
  for i in range(2):
    weights = seen[f'blocks.{i}.attn.weights'].numpy()
    np.testing.assert_allclose(weights.sum(-1), 1, atol=1e-6)
    assert not np.triu(weights, 1).any()
    assert np.isneginf(seen[f'blocks.{i}.attn.scores'].numpy()[..., 0, 1]).all()


def test_the_last_residual_gives_the_logits(params, seen):
  last = layernorm(seen['blocks.1.residual'], params.ln_f)
  np.testing.assert_array_equal(
    unembed(last, params, CONFIG), gpt(TOKENS, params, CONFIG)
  )


def test_patterns_select(params):
  _, seen = capture(hidden_states, '*.hidden', 'embedding')(
    TOKENS, params, CONFIG
  )
  assert list(seen) == [
    'embedding',
    'blocks.0.mlp.hidden',
    'blocks.1.mlp.hidden',
  ]


def test_a_tap_can_intervene(params):
  def ablate(name, x):
    return tf.zeros_like(x) if name == 'blocks.1.mlp.hidden' else x

  mlp = params.blocks[1].mlp._replace(
    c_fc=tf.nest.map_structure(tf.zeros_like, params.blocks[1].mlp.c_fc)
  )
  without = params._replace(
    blocks=(params.blocks[0], params.blocks[1]._replace(mlp=mlp))
  )
  found = gpt(TOKENS, params, CONFIG, hook=ablate)
  np.testing.assert_allclose(found, gpt(TOKENS, without, CONFIG), atol=1e-5)
  assert np.abs(found - gpt(TOKENS, params, CONFIG)).max() > 1e-2


def test_a_loss_on_an_intermediate_has_a_gradient(params):
  def penalized(windows):
    loss, seen = capture(loss_fn, '*.hidden')(windows, params, CONFIG)
    return loss, sum(tf.reduce_mean(tf.abs(x)) for x in seen.values())

  with tf.GradientTape(persistent=True) as tape:
    loss, penalty = penalized(TOKENS)
  weight = params.blocks[1].mlp.c_fc.w
  assert tf.reduce_max(tf.abs(tape.gradient(penalty, weight))) > 1e-3
  # The penalty of a layer does not depend on later layers.
  assert tape.gradient(penalty, params.blocks[1].mlp.c_proj.w) is None
  assert loss == loss_fn(TOKENS, params, CONFIG)


def test_generation_shows_the_row_that_a_whole_pass_would(params, seen):
  length = tf.constant([5, 5])
  state = decode.start(TOKENS, length, params, CONFIG, n_slots=6)
  (logits, _), step = capture(decode.decode_step)(state, params, CONFIG)
  assert step.keys() == seen.keys()
  weights = step['blocks.1.attn.weights'].numpy()
  np.testing.assert_allclose(
    weights[..., 0, :5],
    seen['blocks.1.attn.weights'][..., -1, :],
    atol=1e-6,
  )
  assert not weights[..., 5].any()
  np.testing.assert_allclose(
    logits, gpt(TOKENS, params, CONFIG)[:, -1], atol=1e-5
  )


def _hlo(function):
  compiled = tf.function(function, jit_compile=True, autograph=False)
  text = compiled.experimental_get_compiler_ir(TOKENS)(stage='hlo')
  return re.sub(r'metadata=\{[^}]*\}|a_inference\w+', '', text)


def test_unused_taps_leave_no_trace_in_the_program(params):
  names = []

  def watch(name, x):
    names.append(name)
    return x

  plain = _hlo(lambda tokens: gpt(tokens, params, CONFIG))
  watched = _hlo(lambda tokens: gpt(tokens, params, CONFIG, hook=watch))
  doubled = _hlo(
    lambda tokens: gpt(tokens, params, CONFIG, hook=lambda _, x: x * 2)
  )
  assert len(names) == 9
  assert watched == plain
  assert doubled != plain
  assert no_hook('x', plain) is plain
