"""Functions of which one trace does for all calls alike.

To trace an operation takes Python a fifth of a millisecond, and a step of GPT-2
has 20,000 of them, most of them the same in each layer or for each weight.

  repeated  a layer: under XLA, a function of the one program
  apart     what has no gradient: the same; in hybrid mode a program of its own
  fused     the arithmetic between two products: in hybrid mode a program
"""

import functools
from collections.abc import Callable
from typing import Any

import tensorflow as tf

from minigpt.compiler import backend


def repeated(f: Callable) -> Callable:
  """`f`, that XLA's programs trace once for all calls alike, as for layers.

  Its gradient is traced once as well. It starts from the same arguments: XLA,
  which dissolves both, takes what they have in common for one. Whether another
  device's XLA does is not known, so programs for it are traced in full.

  Args:
    f: as for `fused`; an argument may be None.
  """
  gradient = _gradient_of(f)

  @functools.wraps(f)
  def call(*args: Any, **static: Any) -> Any:
    if not backend.runs_here():
      return f(*args, **static)
    return _joined(_piece(f), _piece(gradient), args, static)

  return call


def apart(f: Callable) -> Callable:
  """`f`, as a piece that is traced once for all calls alike; no gradient.

  In hybrid mode it is an XLA program of its own, under XLA a function of the
  one program, which XLA dissolves.

  Args:
    f: as for `fused`.
  """
  program = backend.compiled(f)

  @functools.wraps(f)
  def call(*args: Any, **static: Any) -> Any:
    if backend.mode() == 'hybrid':
      piece = program
    elif backend.runs_here():
      piece = _piece(f)
    else:
      return f(*args, **static)
    return piece(*tf.nest.map_structure(tf.convert_to_tensor, args), **static)

  return call


def fused(f: Callable) -> Callable:
  """`f`, in hybrid mode as an XLA program of its own.

  For the arithmetic between two products. Its gradient is another program that
  starts from the same arguments: nothing of what `f` computes on its way is
  written to memory for it.

  Args:
    f: a function of trees of tensors to one tensor or a tree of them, and of
      keywords that are no tensors. It closes over none.
  """
  gradient = _gradient_of(f)
  programs = backend.compiled(f), backend.compiled(gradient)

  @functools.wraps(f)
  def call(*args: Any, **static: Any) -> Any:
    if backend.mode() != 'hybrid':
      return f(*args, **static)
    return _joined(*programs, args, static)

  return call


def _piece(f):
  """`f`, as a function of the program that is being traced."""
  pieces = backend.pieces()
  if f not in pieces:
    # Dissolved sooner, it would be translated for XLA anew for each call.
    attributes = {'_noinline': True}
    pieces[f] = tf.function(
      f, autograph=False, experimental_attributes=attributes
    )
  return pieces[f]


def _gradient_of(f):
  """Of the arguments of `f` that are floats, from theirs and the upstream."""

  def gradient(args, upstream, **static):
    leaves = tf.nest.flatten(args)
    real = [leaf for leaf in leaves if _is_float(leaf)]
    with tf.GradientTape() as tape:
      tape.watch(real)
      y = f(*args, **static)
    grads = iter(tape.gradient(y, real, upstream))
    return [next(grads) if _is_float(x) else None for x in leaves]

  return gradient


def _is_float(x):
  return x is not None and x.dtype.is_floating


def _joined(forward, backward, args, static):
  """The result of `forward`, whose gradient `backward` computes."""
  leaves = tf.nest.flatten(args)

  @tf.custom_gradient
  def joined(*tensors):
    remaining = iter(tensors)
    given = tf.nest.pack_sequence_as(
      args, [None if x is None else next(remaining) for x in leaves]
    )

    def gradient(*upstream):
      grads = backward(given, list(upstream), **static)
      return [d for d, x in zip(grads, leaves, strict=True) if x is not None]

    # Without the stop, a tape that looks on from within another custom
    # gradient would have `forward` return all that it computes.
    unseen = tf.nest.map_structure(_stopped, given)
    return forward(*unseen, **static), gradient

  return joined(*(tf.convert_to_tensor(x) for x in leaves if x is not None))


def _stopped(x):
  return None if x is None else tf.stop_gradient(x)
