"""Custom calls: kernels that an XLA program calls by name.

TensorFlow's op for them is in a generated module outside its public API. Only
this module imports it, and only when a kernel is about to use it: a TensorFlow
without that module loses these kernels and nothing else.
"""

import functools
import json
from collections.abc import Sequence
from typing import Any

import tensorflow as tf


@functools.cache
def available() -> bool:
  """Tells whether this TensorFlow can emit custom calls."""
  try:
    _module()
  except ImportError:
    return False
  return True


def custom_call(
  name: str,
  operands: Sequence[tf.Tensor],
  config: dict[str, Any],
  results: Sequence[tuple[tf.DType, Sequence[int]]],
) -> list[tf.Tensor]:
  """Calls a kernel by its name within an XLA program.

  Args:
    name: the call's target, such as '__onednn$matmul'.
    operands: the kernel's inputs, of known shapes.
    config: the kernel's options, passed to it as JSON.
    results: a dtype and a shape for each tensor that the kernel returns.
  """
  dtypes, shapes = zip(*results, strict=True)
  return _module().xla_custom_call_v2(
    list(operands),
    call_target_name=name,
    backend_config=json.dumps(config),
    has_side_effect=False,
    result_dtypes=list(dtypes),
    result_shapes=list(shapes),
  )


def _module():
  from tensorflow.compiler.tf2xla.ops import gen_xla_ops

  return gen_xla_ops
