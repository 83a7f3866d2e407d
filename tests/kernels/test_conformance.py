"""Every implementation computes what its definition does, with its gradient.

One test for each operation, implementation, backend and dtype. A kernel that
supports none of the examples here fails it.
"""

import dataclasses
from typing import NamedTuple

import numpy as np
import pytest
import tensorflow as tf

from minigpt.compiler import backend, dispatch, jit, remat
from minigpt.config import WEIGHTS, GPTConfig
from minigpt.kernels import attention as attention_kernels
from minigpt.kernels import digit_matmul, fused_linear_cross_entropy, quantize
from minigpt.model import attention, kv_cache, layers, loss, transformer
from minigpt.model.hooks import no_hook
from minigpt.model.params import LayerNorm, Linear, init_params

CONFIG = GPTConfig(
  vocab_size=17,
  context_length=12,
  emb_dim=16,
  n_heads=4,  # A head size that cuDNN does not support.
  n_layers=1,
  drop_rate=0.3,
  qkv_bias=True,
  init_std=0.2,
  vocab_padding=3,
)
REMAT = dataclasses.replace(CONFIG, remat=True)
RNG = tf.constant([1, 2])
PARAMS = tf.nest.map_structure(tf.convert_to_tensor, init_params(CONFIG, 3))
SERVED_MLP = quantize.quantize(
  PARAMS.blocks[0].mlp, 'bfloat16', exported=True, compiled=False
)
TOKENS = tf.random.stateless_uniform([2, 12], [1, 2], 0, 17, tf.int32)
CAUSAL = attention.causal_mask(12)[None, None]
SEGMENTS = attention.segment_mask(tf.constant([[1] * 5 + [2] * 6]))

# Tolerance, relative to the largest number.
ALLOWED = {'float32': 2e-5, 'bfloat16': 4e-2}
# Each row is rounded to 255 levels.
ALLOWED_BY_KERNEL = {
  'int8_linear': 2e-2,
  # The factors are rounded, for any input.
  'bfloat16_linear': 2e-2,
  'bfloat16_logits': 2e-2,
  'bfloat16_mlp': 2e-2,
  # Each row is rounded to 16,255 levels.
  'digit_linear': 3e-4,
}
# A rounded row has no gradient, a gradient is not differentiated, and that of
# embeddings is no tensor.
UNGRADED = {
  'bfloat16_linear',
  'bfloat16_logits',
  'bfloat16_mlp',
  'digit_linear',
  'gpt_of_one_token',
  'int8_linear',
  'tied_value_and_grad',
}
IMPOSSIBLE = {
  **{
    (f'{kind}_linear', 'bfloat16'): 'int8 weights compute in float32 alone'
    for kind in ('digit', 'int8')
  },
  **{
    (f'bfloat16_{what}', 'bfloat16'): 'it is given float32'
    for what in ('linear', 'logits', 'mlp')
  },
  ('flash_attention', 'float32'): 'cuDNN attends in bfloat16 alone',
  ('flash_attention', 'bfloat16'): 'cuDNN needs a GPU; test_cudnn_attention',
}


def normal(*shape, seed=0):
  return tf.random.stateless_normal(shape, [seed, len(shape)])


class Cast(NamedTuple):
  """Rounds to a dtype; `exact` widens the rounded values again."""

  dtype: str
  exact: bool

  def __call__(self, x):
    x = tf.cast(x, self.dtype)
    return tf.cast(x, tf.float32) if self.exact else x


def quantized(weights, dtype='float32', **how):
  layer = Linear(tf.Variable(normal(24, 10)), tf.Variable(normal(10)))
  return quantize.quantize(layer, weights, dtype, **how)


def qkv(*shape):
  return [normal(*shape, seed=i) for i in range(3)]


def tied_loss(p):
  return loss.loss_fn(TOKENS, p, CONFIG)


# For each operation, arguments that together suit all its implementations; `c`
# brings matrices into the dtype, as `params.cast` does for a tree.
EXAMPLES = {
  layers.gelu: lambda c: [[c(normal(3, 8))]],
  layers.layernorm: lambda c: [
    [c(normal(3, 8)), LayerNorm(1 + normal(8), normal(8))],
    [c(normal(2, 20, 8)), LayerNorm(1 + normal(8))],
  ],
  layers.linear: lambda c: [
    [c(normal(2, 3, 8)), Linear(c(normal(8, 5)), normal(5))],
    [c(normal(20, 8)), Linear(c(normal(8, 5)))],
  ],
  layers.embedding_logits: lambda c: [[c(normal(2, 3, 8)), c(normal(5, 8))]],
  layers.dropout: lambda c: [[c(normal(40, 8)), 0.25, RNG]],
  layers.cross_entropy: lambda c: [
    [c(normal(2, 3, 9)), tf.constant([[0, 8, 3], [3, 3, 1]])]
  ],
  quantize.quantized_linear: lambda c: (
    [[normal(n, 24), quantized(weights)] for weights in WEIGHTS for n in (1, 3)]
    + [
      [normal(3, 24), quantized(weights, exported=True, compiled=False)]
      for weights in ('bfloat16', 'int8')
    ]
    + [[normal(3, 24), Linear(quantize.quantize(normal(10, 24), 'bfloat16'))]]
    + [
      [normal(3, 24), digit_matmul.stored(Linear(normal(24, 10), normal(10)))],
      [normal(2, 3, 24), Linear(digit_matmul.stored(normal(10, 24)))],
    ]
    if c.dtype == 'float32'
    else [[c(normal(3, 24)), quantized('float32', c(normal(1, 1)).dtype.name)]]
  ),
  attention.dot_product_attention: lambda c: [
    [*map(c, qkv(2, 3, 11, 4)), None, True],
    # Without `causal`, as dropout differs for each block of queries.
    [*map(c, qkv(2, 3, 11, 4)), SEGMENTS, False, 0.3, RNG],
    [*map(c, qkv(2, 3, 11, 4))],
    [c(normal(1, 3, 1, 4)), *map(c, qkv(1, 3, 5, 4)[1:])],
  ],
  transformer.mlp: lambda c: [
    [c(normal(2, 5, 16)), matrices(c, PARAMS.blocks[0].mlp)],
    [c(normal(2, 5, 16)), SERVED_MLP],
  ],
  transformer.block: lambda c: [
    [c(normal(2, 12, 16)), matrices(c, PARAMS.blocks[0]), *how]
    for how in (
      (CONFIG,),
      (CONFIG, RNG, no_hook, CAUSAL),
      (REMAT, RNG, no_hook, CAUSAL),
    )
  ],
  kv_cache.cached_block: lambda c: [
    [
      c(normal(2, 3, 16)),
      matrices(c, PARAMS.blocks[0]),
      CONFIG,
      None,
      tf.zeros([2], tf.int32),
    ],
    [
      c(normal(2, 1, 16)),
      matrices(c, PARAMS.blocks[0]),
      CONFIG,
      kv_cache.KVCache(c(normal(2, 4, 6, 4)), c(normal(2, 4, 6, 4))),
      tf.constant([2, 5]),
    ],
  ],
  kv_cache.cached_gpt: lambda c: [
    [
      TOKENS[:, :1],
      matrices(c, PARAMS),
      CONFIG,
      (kv_cache.KVCache(c(normal(2, 4, 6, 4)), c(normal(2, 4, 6, 4))),),
      tf.constant([2, 5]),
    ]
  ],
  kv_cache.update_slots: lambda c: [
    [c(1e6 * normal(2, 3, 5, 4)), c(normal(2, 3, 2, 4)), tf.constant([0, 3])]
  ],
  loss.linear_cross_entropy: lambda c: [
    [
      c(normal(n, 12, 16)),
      TOKENS[:n],
      tf.Variable(tf.abs(normal(n, 12)) / 12),  # It has no gradient.
      matrices(c, PARAMS),
      CONFIG,
    ]
    for n in (1, 2)
  ],
  loss.value_and_grad: lambda c: [[tied_loss, matrices(c, PARAMS)]],
}


def matrices(c, tree):
  return tf.nest.map_structure(lambda x: c(x) if len(x.shape) > 1 else x, tree)


@pytest.fixture(autouse=True)
def thresholds(monkeypatch):
  """Makes small arguments take the paths of large ones."""
  monkeypatch.setattr(remat, 'FREE_BYTES', 0)
  monkeypatch.setattr(attention_kernels, 'N_QUERIES', 4)
  monkeypatch.setattr(fused_linear_cross_entropy, 'LOGITS_BYTES', 4 * 17 * 5)


def is_input(leaf):
  """Tells whether a leaf is an input of the program, with a gradient."""
  is_tensor = tf.is_tensor(leaf) and not isinstance(leaf, tf.Variable)
  return is_tensor and leaf.dtype.is_floating


def value_and_gradients(f, args, differentiates):
  """Returns a function of the float tensors of `args`, and these tensors."""
  leaves = tf.nest.flatten(args)
  floats = [x for x in leaves if is_input(x)]

  def compute(*floats):
    rest = iter(floats)
    full = [next(rest) if is_input(x) else x for x in leaves]
    y = f(*tf.nest.pack_sequence_as(args, full))
    return [tf.cast(part, tf.float32) for part in tf.nest.flatten(y)]

  def run(*floats):
    if not differentiates:
      return compute(*floats)
    with tf.GradientTape() as tape:
      tape.watch(floats)
      y = compute(*floats)
      total = tf.add_n([tf.reduce_sum(part * waves(part)) for part in y])
    grads = tape.gradient(total, floats, unconnected_gradients='zero')
    return y + [tf.cast(g, tf.float32) for g in grads]

  return run, floats


def waves(x):
  """Returns an upstream gradient whose entries all differ."""
  return tf.cos(tf.reshape(tf.range(tf.cast(tf.size(x), tf.float32)), x.shape))


def settings(op, implementation, name, args):
  """Returns how to compile for an implementation; None if impossible."""
  mode = name if name in ('hybrid', *backend.GRAPH) else 'xla'
  device = {v: k for k, v in backend.DEVICES.items()}.get(name, '')
  for how in ({}, {'inference': True}, {'inference': True, 'frozen': True}):
    with backend.leaving_for(device), backend.tracing(mode, **how):
      if implementation.supports(**op.bound(*args)):
        return mode, device, how
  return None


def compiled(f, mode, device, how):
  program = jit.compiled(f, mode, **how)
  return jit.retraced(program, device) if device else program


def tried(backends):
  """Leaves out backends that are traced like others."""
  alike = {'xla-portable', 'cuda'} if 'xla' in backends else set()
  alike |= {'graph-onednn'} if 'graph' in backends else set()
  return [name for name in backends if name not in alike]


dispatch.load_plugins()
CASES = [
  pytest.param(op, kernel, name, dtype, id=f'{kernel.name}-{name}-{dtype}')
  for op in dispatch.Op.registry
  for kernel in op.implementations
  for name in tried(kernel.backends)
  for dtype in ('float32', 'bfloat16')
]


@pytest.mark.parametrize('op, kernel, name, dtype', CASES)
def test_an_implementation_is_its_definition(op, kernel, name, dtype):
  if (kernel.name, dtype) in IMPOSSIBLE:
    pytest.skip(IMPOSSIBLE[kernel.name, dtype])
  examples = EXAMPLES[op](Cast(dtype, exact=False))
  exact = EXAMPLES[op](Cast(dtype, exact=True))
  n_run = 0
  for args, exact_args in zip(examples, exact, strict=True):
    found = settings(op, kernel, name, args)
    if not found:
      continue
    n_run += 1
    differentiates = 'frozen' not in found[2] and kernel.name not in UNGRADED
    f, floats = value_and_gradients(kernel.function, args, differentiates)
    g, exact_floats = value_and_gradients(
      op.definition, exact_args, differentiates
    )
    wanted = g(*exact_floats)
    for one, other in zip(compiled(f, *found)(*floats), wanted, strict=True):
      allowed = ALLOWED_BY_KERNEL.get(kernel.name, ALLOWED[dtype])
      atol = allowed * max(np.abs(other).max(), 1e-3)
      np.testing.assert_allclose(one, other, rtol=0, atol=atol)
  assert n_run, 'no example suits this kernel'


def test_every_operation_with_kernels_has_examples():
  assert set(EXAMPLES) == {
    op for op in dispatch.Op.registry if op.implementations
  }
