"""Parts of a program that are traced once for all calls alike, or compiled.

To trace an operation takes Python a fifth of a millisecond, and a step of GPT-2
has 20,000 of them, most of them the same in each layer or for each weight.

  traced_once          a layer: in an XLA program, a function of the program
  traced_once_no_grad  the same for what has no gradient; in `hybrid` an XLA
                       program of its own
  compiled_island      in `hybrid`, an XLA program of its own, for the
                       arithmetic between two matmuls

Portable programs (`xla-portable`, `cuda`) are traced in full: whether the XLA
of another device merges what the functions have in common is not known.
"""

import functools
from collections.abc import Callable
from typing import Any

import tensorflow as tf

from minigpt.compiler import backend, jit


def traced_once(f: Callable) -> Callable:
  """Returns `f`, traced once for all calls alike in an XLA program.

  Its gradient is traced once as well. The gradient starts from the same
  arguments; XLA inlines both functions and merges what they have in common.

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
  """Returns `f`, which has no gradient, traced once for all calls alike.

  In `hybrid` it is an XLA program of its own; under XLA, a function of the one
  program, which XLA inlines.

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
  """Returns `f`, in `hybrid` as an XLA program of its own.

  Its gradient is another program that starts from the same arguments: no
  intermediate result of `f` is written to memory for it.

  Args:
    f: a function of trees of tensors to one tensor or a tree of them, and of
      keywords that are no tensors. It closes over no tensors.
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
  """Returns `f` as a function of the program that is being traced."""
  subgraphs = backend.current().subgraphs
  if f not in subgraphs:
    # Inlined sooner, it would be translated for XLA again for each call.
    attributes = {'_noinline': True}
    subgraphs[f] = tf.function(
      f, autograph=False, experimental_attributes=attributes
    )
  return subgraphs[f]


def _gradient_of(f):
  """Returns a function that differentiates `f` by its float arguments."""

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

    # Without the stop, a tape that looks on from within another custom
    # gradient would have `forward` return all that it computes.
    unseen = tf.nest.map_structure(_stopped, full_args)
    return forward(*unseen, **static), gradient

  return joined(*(tf.convert_to_tensor(x) for x in leaves if x is not None))


def _stopped(x):
  return None if x is None else tf.stop_gradient(x)
