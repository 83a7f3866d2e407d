"""Hooks: functions that see, and may change, intermediate values of a model.

Every function of the model takes a hook and passes its intermediates through
it by name: `embedding`, `blocks.0.attn.scores`, `blocks.0.attn.weights`,
`blocks.0.mlp.hidden`, `blocks.0.residual`, ... The default hook, `no_hook`,
returns its input and therefore adds nothing to a compiled program.

  logits, seen = capture(gpt, '*.attn.weights')(tokens, params, config)

A hook may return another tensor in place of its input; zeros for one name are
an ablation. A model with a hook always runs the definitions, even compiled.
"""

import fnmatch
from collections.abc import Callable
from typing import Any

import tensorflow as tf

Hook = Callable[[str, tf.Tensor], tf.Tensor]


def no_hook(name: str, x: tf.Tensor) -> tf.Tensor:
  """Returns `x`."""
  return x


def scope(hook: Hook, prefix: str) -> Hook:
  """Returns a hook that puts `prefix` and a dot before each name."""
  if hook is no_hook:
    return hook
  return lambda name, x: hook(f'{prefix}.{name}', x)


def capture(function: Callable[..., Any], *patterns: str) -> Callable[..., Any]:
  """Makes `function` also return its intermediates: (result, {name: tensor}).

  Args:
    function: takes a keyword argument `hook`.
    patterns: names to keep, `*` matching any part; without one, all are kept.
  """

  def call(*args, **kwargs):
    seen = {}

    def keep(name, x):
      if any(fnmatch.fnmatchcase(name, p) for p in patterns or '*'):
        seen[name] = x
      return x

    return function(*args, **kwargs, hook=keep), seen

  return call
