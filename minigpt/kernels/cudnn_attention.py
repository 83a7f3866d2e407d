"""Causal attention as one kernel of cuDNN.

Why: FlashAttention (Dao et al. 2022) writes no scores or weights to memory.

For: `cuda`, in bfloat16, with head sizes up to 128 that are multiples of 8, and
without dropout. The forward and the backward kernel are custom calls of XLA,
configured in JSON (XLA's service/gpu/backend_configs.proto).

Measured on an H200: benchmarks/log.md has the rates in training.

Shapes: B batch, H heads, T tokens, K head size.
"""

import math
from typing import Any

import tensorflow as tf

from minigpt.compiler import custom_call
from minigpt.model.attention import dot_product_attention
from minigpt.model.hooks import no_hook

# The contracted dimensions of each matmul, under XLA's names. Forward: q k' and
# w v; backward: the gradients dk, dq, dv and dw.
_FORWARD = {'bmm1': (3, 3), 'bmm2': (3, 2)}
_BACKWARD = {
  'bmm1_grad_gemm1': (2, 2),
  'bmm1_grad_gemm2': (3, 2),
  'bmm2_grad_gemm1': (2, 2),
  'bmm2_grad_gemm2': (3, 3),
}
_LARGEST_HEAD = 128


def _supports(q, causal, drop_rate, rng, hook, **_) -> bool:
  n_features = q.shape[-1]
  return (
    causal
    and hook is no_hook
    and not (drop_rate and rng is not None)
    and q.dtype == tf.bfloat16
    and q.shape.is_fully_defined()
    and n_features <= _LARGEST_HEAD
    and n_features % 8 == 0
  )


@dot_product_attention.implementation('cuda', supports=_supports)
def flash_attention(
  q: tf.Tensor, k: tf.Tensor, v: tf.Tensor, *args: Any, **kwargs: Any
) -> tf.Tensor:  # bfloat16 [B, H, T, K] each -> [B, H, T, K]
  """Attends causally; `_supports` has checked the other arguments."""
  return _attend(q, k, v)


@tf.custom_gradient
def _attend(q, k, v):
  like_q = (q.dtype, q.shape)
  y, log_sums = _call(
    'fmhaSoftmax', _FORWARD, [q, k, v], [like_q, (tf.float32, q.shape[:-1])]
  )

  def gradient(dy):
    operands = [q, k, v, log_sums, dy, y]
    return _call('fmhaSoftmaxBackward', _BACKWARD, operands, [like_q] * 3)

  return y, gradient


def _call(name, matmuls, operands, results):
  """Calls a kernel of cuDNN; `results` lists dtype and shape of each result."""
  workspace = (tf.uint8, [0])  # XLA asks cuDNN for the real size.
  *made, _ = custom_call.custom_call(
    f'__cudnn${name}',
    operands,
    _config(operands[0].shape, matmuls),
    [*results, workspace],
  )
  return made


def _config(shape, matmuls):
  b, h, t, k = shape
  return {
    'operation_queue_id': '0',
    'cudnn_fmha_backend_config': {
      'algorithm': {
        'algo_id': '0',
        'math_type': 'TENSOR_OP_MATH',
        'tuning_knobs': {'17': '1', '24': '0'},
        'is_cudnn_frontend': True,
        'workspace_size': '0',
      },
      'fmha_scale': 1 / math.sqrt(k),
      'dropout_rate': 0.0,
      'intermediate_tensor_shape': {
        'element_type': 'BF16',
        'dimensions': [str(n) for n in (b, h, t, t)],
        'layout': {'minor_to_major': ['3', '2', '1', '0']},
        'is_dynamic_dimension': [False] * 4,
      },
      'is_flash_attention': True,
      'mask_type': 'CAUSAL',
      'max_seg_per_batch': 1,
      **{
        f'{name}_dot_dimension_numbers': _dimensions(*summed)
        for name, summed in matmuls.items()
      },
    },
  }


def _dimensions(left, right):
  return {
    'lhs_contracting_dimensions': [str(left)],
    'rhs_contracting_dimensions': [str(right)],
    'lhs_batch_dimensions': ['0', '1'],
    'rhs_batch_dimensions': ['0', '1'],
  }
