"""The most likely tokens at each position, which an answer can report.

Shapes: B rows, V vocabulary.
"""

from typing import NamedTuple

import tensorflow as tf

from minigpt.model.layers import sizes

WIDTH = 20  # The most alternatives that a request can ask for.


class Alternatives(NamedTuple):
  """Tokens and their scores, best first; unused places hold -1 and 0."""

  tokens: tf.Tensor  # int32 [B, 20]
  scores: tf.Tensor  # f32 [B, 20]


def no_alternatives(n_rows: tf.Tensor) -> Alternatives:
  """Returns the alternatives of rows that ask for none."""
  return Alternatives(tf.fill([n_rows, WIDTH], -1), tf.zeros([n_rows, WIDTH]))


def most_likely(scores: tf.Tensor, k: tf.Tensor) -> Alternatives:
  """Returns the best tokens of each row.

  Args:
    scores: f32 [B, V].
    k: int32 [B], how many to return, 0 to 20; at most V exist.
  """
  n_known = min(WIDTH, sizes(scores)[1])
  best, ids = tf.math.top_k(scores, n_known)
  room = [[0, 0], [0, WIDTH - n_known]]
  place = tf.range(WIDTH)
  asked = (place < k[:, None]) & (place < n_known)
  return Alternatives(
    tf.where(asked, tf.pad(ids, room), -1),
    tf.where(asked, tf.pad(best, room), 0.0),
  )


def most_likely_log_probs(logits: tf.Tensor, k: tf.Tensor) -> Alternatives:
  """Returns the best tokens with their log p; costs nothing if all k are 0."""
  return tf.cond(
    tf.reduce_any(k > 0),
    lambda: most_likely(tf.nn.log_softmax(logits), k),
    lambda: no_alternatives(tf.shape(logits)[0]),
  )
