"""Subgraphs: parts of a program that are traced, or compiled, only once.

Tracing an operation takes Python a fifth of a millisecond, and a training step
of GPT-2 has 20,000, most of them the same in each layer or for each weight.

  traced_once          in `xla`, one function in the program, called by each
                       layer
  traced_once_no_grad  the same for functions without gradient; in `hybrid`, an
                       XLA program of its own
  compiled_island      in `hybrid`, an XLA program of its own, for the
                       arithmetic between two matmuls

Exported programs (`xla-portable`, `cuda`) are traced in full: the XLA of
another device may not merge what the functions have in common.
"""

import functools
from collections.abc import Callable
from typing import Any

import tensorflow as tf

from minigpt.compiler import backend, jit


def traced_once(f: Callable) -> Callable:
  """Makes an XLA program trace `f` once for all calls of the same shapes.

  The gradient of `f` is traced once too. It starts from the arguments of `f`
  and recomputes; XLA inlines both functions and merges what they share.

  Args:
    f: as for `compiled_island`; an argument may be None.
  """
  gradient = _gradient_of(f)

  @functools.wraps(f)
  def call(*args: Any, **static: Any) -> Any:
    if backend.current().name != 'xla':
      return f(*args, **static)
    return _joined(_subgraph(f), _subgraph(gradient), args, static)

  return call


def traced_once_no_grad(f: Callable) -> Callable:
  """Traces `f` once for all calls of the same shapes; `f` has no gradient.

  In `hybrid`, `f` becomes an XLA program of its own; in `xla`, a function in
  the program, which XLA inlines.

  Args:
    f: as for `compiled_island`.
  """
  program = jit.compiled(f)

  @functools.wraps(f)
  def call(*args: Any, **static: Any) -> Any:
    name = backend.current().name
    if name == 'hybrid':
      subgraph = program
    elif name == 'xla':
      subgraph = _subgraph(f)
    else:
      return f(*args, **static)
    tensors = tf.nest.map_structure(tf.convert_to_tensor, args)
    return subgraph(*tensors, **static)

  return call


def compiled_island(f: Callable) -> Callable:
  """Makes `f` an XLA program of its own in `hybrid`.

  The gradient is another program. It starts from the arguments of `f`, so that
  `f` writes no intermediate results to memory.

  Args:
    f: a function from trees of tensors to a tensor or a tree of them; keyword
      arguments are no tensors. It closes over no tensors.
  """
  gradient = _gradient_of(f)
  programs = jit.compiled(f), jit.compiled(gradient)

  @functools.wraps(f)
  def call(*args: Any, **static: Any) -> Any:
    if backend.current().name != 'hybrid':
      return f(*args, **static)
    return _joined(*programs, args, static)

  return call


def _subgraph(f):
  """Returns `f` as a function in the program that is being traced."""
  subgraphs = backend.current().subgraphs
  if f not in subgraphs:
    # Only XLA may inline it: TensorFlow would inline it too early, and XLA's
    # bridge would translate every copy.
    attributes = {'_noinline': True}
    subgraphs[f] = tf.function(
      f, autograph=False, experimental_attributes=attributes
    )
  return subgraphs[f]


def _gradient_of(f):
  """Returns the gradient function of `f` in its float arguments."""

  def gradient(args, upstream, **static):
    leaves = tf.nest.flatten(args)
    floats = [leaf for leaf in leaves if _is_float(leaf)]
    with tf.GradientTape() as tape:
      tape.watch(floats)
      y = f(*args, **static)
    grads = iter(tape.gradient(y, floats, upstream))
    return [next(grads) if _is_float(x) else None for x in leaves]

  return gradient


def _is_float(x):
  return x is not None and x.dtype.is_floating


def _joined(forward, backward, args, static):
  """Returns the result of `forward`, whose gradient `backward` computes."""
  leaves = tf.nest.flatten(args)

  @tf.custom_gradient
  def joined(*tensors):
    remaining = iter(tensors)
    full_args = tf.nest.pack_sequence_as(
      args, [None if x is None else next(remaining) for x in leaves]
    )

    def gradient(*upstream):
      grads = backward(full_args, list(upstream), **static)
      return [d for d, x in zip(grads, leaves, strict=True) if x is not None]

    # Without the stop, a tape inside another custom gradient would make
    # `forward` return all its intermediate values.
    unseen = tf.nest.map_structure(_stopped, full_args)
    return forward(*unseen, **static), gradient

  return joined(*(tf.convert_to_tensor(x) for x in leaves if x is not None))


def _stopped(x):
  return None if x is None else tf.stop_gradient(x)
