"""Checks of requests within the graph.

What is wrong with a request fails it with INVALID_ARGUMENT and the name of the
field.

Shapes: B rows.
"""

from collections.abc import Sequence
from typing import NamedTuple

import tensorflow as tf

from minigpt.generation.row_stops import MAX_BYTES, MAX_STRINGS
from minigpt.generation.sampling_fields import SAMPLING_FIELDS, Range

Tensors = dict[str, tf.Tensor]


class Check(NamedTuple):
  """A rule that an input must keep to."""

  holds: tf.Tensor  # bool [B] or [B, T]
  value: tf.Tensor  # of the same shape
  field: str
  rule: str


def require(
  holds: tf.Tensor, value: tf.Tensor, field: str, rule: str | tf.Tensor
) -> tf.Tensor:
  """Returns `value` [B], once `holds` [B] is true in all rows.

  Otherwise it fails with INVALID_ARGUMENT, the field, a value, and the rule,
  which may be another one in each row.
  """
  wrong = tf.where(~holds)[:1]
  if tf.is_tensor(rule):
    rule = tf.gather_nd(rule, wrong)
  checked = _require_none(wrong, tf.gather_nd(value, wrong), field, rule)
  with tf.control_dependencies([checked]):
    return tf.identity(value)


def require_at_most(
  value: tf.Tensor, most: int, field: str, least: int
) -> tf.Tensor:
  """Returns `value` [B], once it lies between `least` and `most`."""
  rule = f'must lie in [{least}, {most}]'
  return require((value >= least) & (value <= most), value, field, rule)


def require_all(checks: Sequence[Check]) -> list[tf.Tensor]:
  """Returns the values [B], once each holds in all rows.

  One assertion for all: a server prepares each operation of a signature.
  """
  wrong = tf.where(~tf.stack([check.holds for check in checks]))[:1]
  which = wrong[:, 0]
  values = tf.stack([tf.strings.as_string(check.value) for check in checks])
  checked = _require_none(
    wrong[:, 1:],
    tf.gather_nd(values, wrong),
    tf.gather([check.field for check in checks], which),
    tf.gather([check.rule for check in checks], which),
  )
  with tf.control_dependencies([checked]):
    return [tf.identity(check.value) for check in checks]


def _require_none(wrong, value, field, rule):
  """Asserts that there is no index in `wrong`, [0 or 1, rank]."""
  row = tf.strings.as_string(wrong[:, 0])
  if value.dtype != tf.string:
    value = tf.strings.as_string(value)
  message = [field, '=', value, ' in row ', row, ': it ', rule]
  text = tf.strings.reduce_join(tf.strings.join(message))
  return tf.debugging.Assert(tf.size(wrong) == 0, [text])


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
  names = list(inputs)
  n_rows = tf.stack([_n_rows(x) for x in inputs.values()])
  other = tf.where(n_rows != n_rows[0])[:1, 0]
  text = tf.strings.join(
    [
      tf.strings.reduce_join(tf.gather(names, other)),
      f' and {names[0]} must have as many rows:',
    ]
  )
  checked = tf.debugging.Assert(tf.size(other) == 0, [text, n_rows])
  with tf.control_dependencies([checked]):
    return {name: tf.identity(x) for name, x in inputs.items()}


def _n_rows(x: tf.Tensor) -> tf.Tensor:
  return tf.size(x) if x.shape.rank == 1 else tf.shape(x)[0]


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
  checks = [
    Check(field.accepts(options[name], options), options[name], name, rule)
    for name, field in (SAMPLING_FIELDS | {'max_new_tokens': own}).items()
    if field.range and (rule := field.range.rule)
  ]
  checked = zip(checks, require_all(checks), strict=True)
  return options | {check.field: value for check, value in checked}
