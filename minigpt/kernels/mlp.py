"""The MLP that keeps its hidden units once for its gradient, before GELU.

Why: a tape keeps them before and after, eight times the residual stream.

For: compiled programs that take gradients. Few units are kept twice. For a GPU
(`cuda`), which has memory, all are, but nothing of which GELU is made.

Measured: `minigpt bench --what=train` prints the peak memory.
"""

import tensorflow as tf

from minigpt.compiler.backend import COMPILED, current
from minigpt.compiler.remat import rematerialized, worth_rematerializing
from minigpt.model.hooks import Hook, no_hook
from minigpt.model.layers import gelu, linear, sizes
from minigpt.model.params import MLP
from minigpt.model.transformer import mlp


def _is_differentiated(hook, **_) -> bool:
  return hook is no_hook and not current().inference


@mlp.implementation('cuda', supports=_is_differentiated)
def mlp_with_rematerialized_gelu(
  x: tf.Tensor, p: MLP, hook: Hook = no_hook
) -> tf.Tensor:  # [B, T, D] -> [B, T, D]
  """Computes the MLP, and GELU again for the gradient."""
  return linear(rematerialized(gelu)(linear(x, p.c_fc)), p.c_proj)


@mlp.implementation(*COMPILED, supports=_is_differentiated)
def memory_efficient_mlp(
  x: tf.Tensor, p: MLP, hook: Hook = no_hook
) -> tf.Tensor:  # [B, T, D] -> [B, T, D]
  """Computes the MLP, and its second half again for the gradient."""
  hidden, project = linear(x, p.c_fc), _project
  if worth_rematerializing(*sizes(hidden)):
    project = rematerialized(_project)
  return project(hidden, p.c_proj)


def _project(hidden, p):
  return linear(gelu(hidden), p)
