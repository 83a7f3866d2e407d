"""Checks of requests, as part of the graph.

A bad request fails with INVALID_ARGUMENT and the name of the field.

Shapes: B rows.
"""

from collections.abc import Sequence
from typing import NamedTuple

import tensorflow as tf

from minigpt.generation.row_stops import MAX_BYTES, MAX_STRINGS
from minigpt.generation.sampling_fields import SAMPLING_FIELDS, Range

Tensors = dict[str, tf.Tensor]


class Check(NamedTuple):
  """A rule for an input."""

  holds: tf.Tensor  # bool [B] or [B, T]
  value: tf.Tensor  # of the same shape
  field: str
  rule: str


def require(
  holds: tf.Tensor, value: tf.Tensor, field: str, rule: str | tf.Tensor
) -> tf.Tensor:
  """Returns `value` [B], and asserts that `holds` [B] is true in all rows.

  Otherwise the request fails with INVALID_ARGUMENT, and a message with the
  field, the first wrong value and the rule, which may differ by row.
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
  """Returns `value` [B], and asserts that it lies in [least, most]."""
  rule = f'must lie in [{least}, {most}]'
  return require((value >= least) & (value <= most), value, field, rule)


def require_all(checks: Sequence[Check]) -> list[tf.Tensor]:
  """Returns the values [B], and asserts that each holds in all rows.

  One assertion serves all checks, as each operation takes the server time.
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
  """Asserts that `wrong`, [0 or 1, rank], contains no index."""
  row = tf.strings.as_string(wrong[:, 0])
  if value.dtype != tf.string:
    value = tf.strings.as_string(value)
  message = [field, '=', value, ' in row ', row, ': it ', rule]
  text = tf.strings.reduce_join(tf.strings.join(message))
  return tf.debugging.Assert(tf.size(wrong) == 0, [text])


def require_stops(stop: tf.Tensor) -> tf.Tensor:  # string [B, K] -> [B, K]
  """Returns stop strings, and asserts that number and lengths are allowed."""
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
  """Returns the inputs, and asserts that all have the same number of rows."""
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
  """Returns a cache's values, and asserts that they have as many slots as keys.

  Args:
    values: [B, L, H, S, K].
    n_slots: S of the keys.
  """
  n = tf.shape(values)[3]
  checked = tf.debugging.Assert(
    n == n_slots, ['values and keys must have as many slots:', n, n_slots]
  )
  with tf.control_dependencies([checked]):
    return tf.identity(values)


def complete_options(given: Tensors, n_rows: tf.Tensor, limit: int) -> Tensors:
  """Returns all sampling options, and asserts that the given ones are in range.

  It refuses the same values as `Request.check`.

  Args:
    given: options [B] by name; the others get their defaults.
    n_rows: B.
    limit: the highest `max_new_tokens`.
  """
  options = {
    name: tf.fill([n_rows], tf.constant(field.default, field.dtype))
    for name, field in SAMPLING_FIELDS.items()
  } | given
  # The export's limit of new tokens is lower than that of a request.
  own = SAMPLING_FIELDS['max_new_tokens']._replace(range=Range(1, limit))
  checks = [
    Check(field.accepts(options[name], options), options[name], name, rule)
    for name, field in (SAMPLING_FIELDS | {'max_new_tokens': own}).items()
    if field.range and (rule := field.range.rule)
  ]
  checked = zip(checks, require_all(checks), strict=True)
  return options | {check.field: value for check, value in checked}
