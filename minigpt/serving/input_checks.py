"""Checks of requests within the graph.

What is wrong with a request fails it with INVALID_ARGUMENT and the name of the
field.

Shapes: B rows.
"""

import tensorflow as tf

from minigpt.generation.row_stops import MAX_BYTES, MAX_STRINGS
from minigpt.generation.sampling_fields import SAMPLING_FIELDS, Range
from minigpt.tokenizers import in_graph_base

Tensors = dict[str, tf.Tensor]


def require(
  holds: tf.Tensor, value: tf.Tensor, field: str, rule: str
) -> tf.Tensor:
  """Returns `value` [B], once `holds` [B] is true in all rows.

  Otherwise it fails with INVALID_ARGUMENT, the field, a value, and the rule.
  """
  wrong = tf.where(~holds)[:, 0]
  message = tf.strings.join(
    [
      f'{field}=',
      tf.strings.as_string(in_graph_base.first(tf.boolean_mask(value, ~holds))),
      ' in row ',
      tf.strings.as_string(in_graph_base.first(wrong)),
      f': it {rule}',
    ]
  )
  checked = tf.debugging.Assert(tf.reduce_all(holds), [message])
  with tf.control_dependencies([checked]):
    return tf.identity(value)


def require_stops(stop: tf.Tensor) -> tf.Tensor:  # string [B, K] -> [B, K]
  """Returns stop strings, once there are not too many, and none is too long."""
  n_strings = tf.fill([tf.shape(stop)[0]], tf.shape(stop)[1])
  n_bytes = tf.reduce_max(tf.pad(tf.strings.length(stop), [[0, 0], [0, 1]]), 1)
  for n, most, unit in (
    (n_strings, MAX_STRINGS, 'strings'),
    (n_bytes, MAX_BYTES, 'bytes in a string'),
  ):
    checked = require(n <= most, n, 'stop', f'must not exceed {most} {unit}')
    with tf.control_dependencies([checked]):
      stop = tf.identity(stop)
  return stop


def same_rows(inputs: Tensors) -> Tensors:
  """Returns the inputs, once all have as many rows as the first."""
  (first, *_), n_rows = inputs, [tf.shape(x)[0] for x in inputs.values()]
  checks = [
    tf.debugging.Assert(
      n == n_rows[0], [f'{name} and {first} must have as many rows:', n, n_rows]
    )
    for name, n in zip(inputs, n_rows, strict=True)
  ]
  with tf.control_dependencies(checks):
    return {name: tf.identity(x) for name, x in inputs.items()}


def require_same_slots(values: tf.Tensor, n_slots: tf.Tensor) -> tf.Tensor:
  """Returns a cache's values [B, L, H, S, K], once S is that of the keys."""
  n = tf.shape(values)[3]
  checked = tf.debugging.Assert(
    n == n_slots, ['values and keys must have as many slots:', n, n_slots]
  )
  with tf.control_dependencies([checked]):
    return tf.identity(values)


def complete_options(given: Tensors, n_rows: tf.Tensor, limit: int) -> Tensors:
  """Returns all sampling options, once those that are given are in range.

  Fails where `Request.check` would refuse a value.

  Args:
    given: options [B] by name; the others get their defaults.
    n_rows: B.
    limit: the highest `max_new_tokens`.
  """
  options = {
    name: tf.fill([n_rows], tf.constant(field.default, field.dtype))
    for name, field in SAMPLING_FIELDS.items()
  } | given
  # The export's own limit is tighter than the one of a request.
  own = SAMPLING_FIELDS['max_new_tokens']._replace(range=Range(1, limit))
  for name, field in (SAMPLING_FIELDS | {'max_new_tokens': own}).items():
    if field.range:
      value = options[name]
      holds = field.accepts(value, options)
      options[name] = require(holds, value, name, field.range.rule)
  return options
