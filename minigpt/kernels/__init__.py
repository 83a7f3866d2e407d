"""Faster programs for the operations of `model`.

Each module holds implementations that `compiler.dispatch` traces in place of a
definition. Its docstring says for which backends, under which predicate, why,
and what was measured. Any of them can be removed without changing a result.
The definitions live in `model`; tools that know of no GPT, in `compiler`.
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
