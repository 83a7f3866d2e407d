"""cuDNN's attention: who is given it, and what is asked of it.

Its part is played by einsums that go by what XLA would be told.
"""

import dataclasses
import json
import math

import numpy as np
import pytest
import tensorflow as tf
from tensorflow.compiler.tf2xla.ops import gen_xla_ops

from minigpt.compiler import jit
from minigpt.config import TrainConfig
from minigpt.model import attention as att
from minigpt.model.loss import loss_fn
from minigpt.model.params import cast
from minigpt.model.transformer import GPT
from minigpt.training.state import TrainState
from minigpt.training.step import compiled_train_steps

SHAPE = [2, 3, 8, 16]


def product(a, b, config, name):
  """Multiplies over the dimensions that `config` names."""
  about = config[f'{name}_dot_dimension_numbers']
  [left], [right] = (
    map(int, about[f'{side}_contracting_dimensions']) for side in ('lhs', 'rhs')
  )
  assert about['lhs_batch_dimensions'] == about['rhs_batch_dimensions']
  assert about['lhs_batch_dimensions'] == ['0', '1']
  first, second = ['b', 'h', 'i', 'k'], ['b', 'h', 'j', 'l']
  first[left] = second[right] = 'z'
  out = ['b', 'h', first[5 - left], second[5 - right]]
  return tf.einsum(f'{"".join(first)},{"".join(second)}->{"".join(out)}', a, b)


def cudnn(operands, call_target_name, backend_config, result_shapes, **_):
  """Emulates the kernels in f32; the last result is the workspace."""
  config = json.loads(backend_config)['cudnn_fmha_backend_config']
  assert config['mask_type'] == 'CAUSAL' and config['dropout_rate'] == 0
  q, k, v, *rest = (tf.cast(x, tf.float32) for x in operands)
  t = q.shape[2]
  about = config['intermediate_tensor_shape']
  assert list(map(int, about['dimensions'])) == [*q.shape[:2], t, t]
  mask = np.tril(np.ones([t, t], bool))

  def scores(products):
    return tf.where(mask, config['fmha_scale'] * products, -math.inf)

  if call_target_name == '__cudnn$fmhaSoftmax':
    s = scores(product(q, k, config, 'bmm1'))
    y = product(tf.nn.softmax(s), v, config, 'bmm2')
    results = [y, tf.reduce_logsumexp(s, -1)]
  else:
    assert call_target_name == '__cudnn$fmhaSoftmaxBackward'
    log_sums, dy, y = rest
    s = scores(tf.einsum('bhik,bhjk->bhij', q, k))
    w = tf.exp(s - log_sums[..., None])
    dw = product(dy, v, config, 'bmm2_grad_gemm2')
    ds = w * (dw - tf.reduce_sum(dy * y, -1, keepdims=True))
    ds *= config['fmha_scale']
    results = [
      product(ds, k, config, 'bmm1_grad_gemm2'),
      product(ds, q, config, 'bmm1_grad_gemm1'),
      product(w, dy, config, 'bmm2_grad_gemm1'),
    ]
  results += [tf.zeros([0])]
  assert [x.shape.as_list() for x in results] == [
    list(s) for s in result_shapes
  ]
  return results


@pytest.fixture
def played(monkeypatch):
  """The names of the cuDNN kernels that were called."""
  calls, real = [], gen_xla_ops.xla_custom_call_v2

  def call(operands, call_target_name, result_dtypes, **other):
    if 'cudnn' not in call_target_name:
      return real(
        operands, call_target_name, result_dtypes=result_dtypes, **other
      )
    calls.append(call_target_name)
    results = cudnn(operands, call_target_name, **other)
    return [
      tf.cast(x, dtype) for x, dtype in zip(results, result_dtypes, strict=True)
    ]

  monkeypatch.setattr(gen_xla_ops, 'xla_custom_call_v2', call)
  return calls


def on_cuda(f, *args):
  """Traces `f` for the device, and runs it here."""
  return jit.retraced(jit.compiled(f), 'cuda')(*args)


def q_k_v(dtype=tf.bfloat16, shape=SHAPE):
  return [
    tf.cast(2 * tf.random.stateless_normal(shape, [i, 0]), dtype)
    for i in range(3)
  ]


def test_the_kernel_is_told_what_attention_is(played):
  def both(q, k, v):
    with tf.GradientTape() as tape:
      tape.watch([q, k, v])
      y = att.dot_product_attention(q, k, v, causal=True)
      loss = tf.reduce_sum(tf.sin(tf.cast(y, tf.float32)))
    return [y, *tape.gradient(loss, [q, k, v])]

  given = q_k_v()
  found = on_cuda(both, *given)
  assert played == ['__cudnn$fmhaSoftmax', '__cudnn$fmhaSoftmaxBackward']
  expected = both(*(tf.cast(x, tf.float32) for x in given))
  for a, b in zip(found, expected, strict=True):
    np.testing.assert_allclose(tf.cast(a, tf.float32), b, rtol=2e-2, atol=3e-2)


def test_a_model_for_cuda_is_the_same_model(config, tokens, played):
  """Including its MLP, which has an implementation of its own."""
  config = dataclasses.replace(config, emb_dim=32, n_heads=2)
  params = cast(GPT(config, seed=1).params, tf.bfloat16)

  def both(tokens):
    leaves = tf.nest.flatten(params)
    with tf.GradientTape() as tape:
      tape.watch(leaves)
      loss = loss_fn(tokens, params, config)
    return loss, [tf.cast(g, tf.float32) for g in tape.gradient(loss, leaves)]

  loss, grads = on_cuda(both, tokens)
  assert len(played) == 2 * config.n_layers
  expected, expected_grads = jit.compiled(both)(tokens)
  assert float(loss) == pytest.approx(float(expected), rel=2e-2)
  for a, b in zip(grads, expected_grads, strict=True):
    assert np.linalg.norm(a - b) <= 0.05 * np.linalg.norm(b)


@pytest.mark.parametrize(
  'case', ['any', 'float32', '12 features', 'dropout', 'unknown length', 'hook']
)
def test_attention_is_plain_where_the_kernel_does_not_do(case, played):
  q, k, v = q_k_v(
    tf.float32 if case == 'float32' else tf.bfloat16,
    [2, 3, 8, 12] if case == '12 features' else SHAPE,
  )
  how = {}
  if case == 'dropout':
    how = {'drop_rate': 0.5, 'rng': tf.constant([0, 1])}
  if case == 'hook':
    how = {'hook': lambda name, x: x}

  def attend(q, k, v):
    return att.dot_product_attention(q, k, v, causal=True, **how)

  free = tf.TensorSpec([2, 3, None, 16], tf.bfloat16)
  given = [free] * 3 if case == 'unknown length' else [q, k, v]
  f = jit.compiled(attend)
  device = 'any' if case == 'any' else 'cuda'
  jit.retraced(f, device).get_concrete_function(*given)
  assert not played
  if case == 'any':
    jit.retraced(f, 'cuda').get_concrete_function(*given)
    assert played


def test_xla_is_given_a_call_for_each_layer_and_direction(config):
  recipe = TrainConfig(batch_size=2, compute_dtype='bfloat16', compile='xla')
  config = dataclasses.replace(config, emb_dim=32, n_heads=2, drop_rate=0.0)
  steps = compiled_train_steps(TrainState(GPT(config)), config, recipe)
  windows = tf.zeros([1, 1, 2, config.context_length + 1], tf.int32)
  f = jit.retraced(steps, 'cuda')
  ir = f.experimental_get_compiler_ir(windows, tf.constant(1))
  main = ir(stage='stablehlo').split('@main(')[1]
  for name in ('fmhaSoftmax', 'fmhaSoftmaxBackward'):
    assert main.count(f'@__cudnn${name}(') == config.n_layers
