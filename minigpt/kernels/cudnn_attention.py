"""Causal attention as one kernel of cuDNN, in what a CUDA device is to run.

FlashAttention (Dao et al. 2022): scores and weights never reach memory. XLA
knows cuDNN's kernel as a custom call, which has a gradient of its own and is
told of both in JSON (XLA: service/gpu/backend_configs.proto). No CPU has it.

Shapes: B batch, H heads, T tokens, K head size.
"""

import json
import math

import tensorflow as tf
from tensorflow.compiler.tf2xla.ops import gen_xla_ops

from minigpt.compiler import backend

# What is multiplied, by the dimensions that are summed over. Forward:
# q k' and w v; backward, by the names that XLA has for them: dk, dq, dv, dw.
_FORWARD = {'bmm1': (3, 3), 'bmm2': (3, 2)}
_BACKWARD = {
  'bmm1_grad_gemm1': (2, 2),
  'bmm1_grad_gemm2': (3, 2),
  'bmm2_grad_gemm1': (2, 2),
  'bmm2_grad_gemm2': (3, 3),
}
_MOST_FEATURES = 128


def suits(q: tf.Tensor) -> bool:
  """Whether what is traced is for a device with the kernel, and `q` for it.

  Args:
    q: [B, H, T, K].
  """
  n_features = q.shape[-1]
  return (
    backend.device() == 'cuda'
    and q.dtype == tf.bfloat16
    and q.shape.is_fully_defined()
    and n_features <= _MOST_FEATURES
    and n_features % 8 == 0
  )


@tf.custom_gradient
def causal_attention(
  q: tf.Tensor, k: tf.Tensor, v: tf.Tensor
) -> tf.Tensor:  # bfloat16 [B, H, T, K] each -> [B, H, T, K]
  """softmax(q k' / sqrt(K)) v under a causal mask."""
  like_q = (q.dtype, q.shape)
  y, log_sums = _call(
    'fmhaSoftmax', _FORWARD, [q, k, v], [like_q, (tf.float32, q.shape[:-1])]
  )

  def gradient(dy):
    given = [q, k, v, log_sums, dy, y]
    return _call('fmhaSoftmaxBackward', _BACKWARD, given, [like_q] * 3)

  return y, gradient


def _call(name, products, given, results):
  """The results, each a dtype and a shape, of a kernel that XLA is to call."""
  workspace = (tf.uint8, [0])  # XLA finds out how much the kernel wants.
  dtypes, shapes = zip(*results, workspace, strict=True)
  *made, _ = gen_xla_ops.xla_custom_call_v2(
    given,
    call_target_name=f'__cudnn${name}',
    backend_config=json.dumps(_config(given[0].shape, products)),
    has_side_effect=False,
    result_dtypes=dtypes,
    result_shapes=shapes,
  )
  return made


def _config(shape, products):
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
        for name, summed in products.items()
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
