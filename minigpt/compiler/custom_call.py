"""Custom calls: kernels that an XLA program knows by name.

TensorFlow offers them through a generated module of its own that is not part of
its public interface. It is imported here alone, and only when a kernel asks: a
TensorFlow without it costs those kernels, and nothing else.
"""

import functools
import json
from collections.abc import Sequence
from typing import Any

import tensorflow as tf


@functools.cache
def available() -> bool:
  """Tells whether this TensorFlow can put custom calls into a program."""
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
    name: the call's target, as in '__onednn$matmul'.
    operands: what it reads; shapes known.
    config: what it is told, which becomes JSON.
    results: a dtype and a shape for each tensor that it returns.
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
