"""An MLP that keeps its hidden units only once for the gradient, before GELU.

Why: a tape keeps the hidden units before and after GELU, together eight times
the size of the residual stream.

For: compiled programs that take gradients. Small hidden layers are kept both
before and after GELU. So are all for a GPU (`cuda`), which has memory enough,
but without the intermediates of GELU.

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
  """Computes the MLP; the gradient recomputes GELU."""
  return linear(rematerialized(gelu)(linear(x, p.c_fc)), p.c_proj)


@mlp.implementation(*COMPILED, supports=_is_differentiated)
def memory_efficient_mlp(
  x: tf.Tensor, p: MLP, hook: Hook = no_hook
) -> tf.Tensor:  # [B, T, D] -> [B, T, D]
  """Computes the MLP; the gradient recomputes its second half."""
  hidden, project = linear(x, p.c_fc), _project
  if worth_rematerializing(*sizes(hidden)):
    project = rematerialized(_project)
  return project(hidden, p.c_proj)


def _project(hidden, p):
  return linear(gelu(hidden), p)
