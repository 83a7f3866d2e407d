"""Faster implementations of the operations of `model`.

`compiler.dispatch` traces them in place of the definitions. The docstring of
each module says why it exists, for which backends, and what was measured. Each
could be removed without changing results. The definitions live in `model`;
tools that are independent of GPT live in `compiler`.
"""

# Implementations of one operation are tried in the order of these imports.
from minigpt.kernels import (  # noqa: I001
  cudnn_attention,
  attention,
  elementwise,
  quantize,
  prepacked_matmul,
  bfloat16_matmul,
  digit_matmul,
  int8_matmul,
  matmul,
  mlp,
  block,
  cache_update,
  fused_linear_cross_entropy,
  one_token,
  tied_embeddings,
)

__all__ = [
  'attention',
  'bfloat16_matmul',
  'block',
  'cache_update',
  'cudnn_attention',
  'digit_matmul',
  'elementwise',
  'fused_linear_cross_entropy',
  'int8_matmul',
  'matmul',
  'mlp',
  'one_token',
  'prepacked_matmul',
  'quantize',
  'tied_embeddings',
]
