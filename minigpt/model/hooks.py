"""Taps: looking at, or changing, what flows inside a model.

Every function of the model takes a tap and passes its intermediates through
it by name: `embedding`, `blocks.0.attn.scores`, `blocks.0.attn.weights`,
`blocks.0.mlp.hidden`, `blocks.0.residual`, ... The default tap hands each one
on untouched, so that nothing of it reaches the compiled program.

  logits, seen = tapped(gpt, '*.attn.weights')(tokens, params, config)

A tap that returns something else than it was given intervenes: a lambda that
returns zeros for one name is an ablation.
"""

import fnmatch
from collections.abc import Callable
from typing import Any

import tensorflow as tf

Tap = Callable[[str, tf.Tensor], tf.Tensor]


def no_tap(name: str, x: tf.Tensor) -> tf.Tensor:
  return x


def under(tap: Tap, prefix: str) -> Tap:
  """The tap whose names start with `prefix` and a dot; no tap stays none."""
  if tap is no_tap:
    return tap
  return lambda name, x: tap(f'{prefix}.{name}', x)


def tapped(function: Callable[..., Any], *patterns: str) -> Callable[..., Any]:
  """`function`, returning beside its result the intermediates by name.

  Inside `tf.function` the intermediates are outputs like any other: return
  those that are wanted, and differentiate a loss on them.

  Args:
    function: takes a keyword argument `tap`.
    patterns: names wanted, `*` for any part; none: all of them.
  """

  def call(*args, **kwargs):
    seen = {}

    def keep(name, x):
      if any(fnmatch.fnmatchcase(name, p) for p in patterns or '*'):
        seen[name] = x
      return x

    return function(*args, **kwargs, tap=keep), seen

  return call
