"""Checks of requests within the graph.

What is wrong with a request fails it with INVALID_ARGUMENT and the name of the
field.

Shapes: B rows.
"""

import tensorflow as tf

from minigpt.generation.decode import Sampling
from minigpt.generation.logits_processors import Rules
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


def check_sampling(how: Sampling) -> Sampling:
  """Fails where `Request.check` would refuse a value."""
  t, k, p, seed = how
  return Sampling(
    require(
      (t >= 0) & tf.math.is_finite(t), t, 'temperature', 'must be 0 or more'
    ),
    require(k >= 0, k, 'top_k', 'must be 0 or more'),
    require((p > 0) & (p <= 1), p, 'top_p', 'must lie in (0, 1]'),
    seed,
  )


def check_rules(
  penalty: tf.Tensor, min_new_tokens: tf.Tensor, max_new_tokens: tf.Tensor
) -> Rules:
  """Fails where `Request.check` would refuse a value."""
  return Rules(
    require(
      (penalty >= 0.01) & (penalty <= 100),
      penalty,
      'repetition_penalty',
      'must lie in [0.01, 100]',
    ),
    require(
      (min_new_tokens >= 0) & (min_new_tokens <= max_new_tokens),
      min_new_tokens,
      'min_new_tokens',
      'must lie between 0 and max_new_tokens',
    ),
  )
