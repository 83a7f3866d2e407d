"""Stop strings of each row's own, searched for in the decoding loop.

The stop strings of an export are compiled to a table over its vocabulary (see
`automaton`). Those of a request are only known at run time, so they are
compared with the last bytes of the text: each step shifts in the bytes of the
new token, and compares every string at every place where it could end with one
of these bytes.

Shapes: B rows, T tokens, K strings, L bytes of the longest, W of the longest
token, R = L - 1 + W.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from minigpt.generation import automaton
from minigpt.model.layers import sizes

MAX_STRINGS = 16
MAX_BYTES = 256  # Bytes of a string.
_NONE = -1  # Padding of a text that is still short: equals no byte.
_ANY = -2  # Padding of a string shorter than the longest: equals every byte.


class Spelling(NamedTuple):
  """The bytes of all tokens of a vocabulary, concatenated."""

  bytes: tf.Tensor  # uint8 [N]
  start: tf.Tensor  # int32 [V + 1], the offset of each token's first byte
  width: int  # W


class RowStops(NamedTuple):
  """The stop strings of each row."""

  strings: tf.Tensor  # int32 [B, K, L], right-aligned
  is_used: tf.Tensor  # bool [B, K]
  spelling: Spelling


def spell(tokens: Sequence[bytes], end_of_text: int | None) -> Spelling:
  """Returns the bytes of the tokens, none for `end_of_text`."""
  spelled = automaton.text_of(tokens, end_of_text)
  n_bytes = list(map(len, spelled))
  return Spelling(
    tf.constant(np.frombuffer(b''.join(spelled), np.uint8)),
    tf.constant(np.cumsum([0, *n_bytes]), tf.int32),
    max(n_bytes),
  )


def read(strings: tf.Tensor, spelling: Spelling) -> RowStops:
  """Converts the strings of each row, string [B, K]; empty ones do not count.

  No string may have more than `MAX_BYTES`. L is rounded up to a power of two,
  so that XLA compiles few shapes.
  """
  n_bytes = tf.strings.length(strings)
  most = tf.reduce_max(tf.concat([[16], tf.reshape(n_bytes, [-1])], 0))
  powers = tf.constant([16, 32, 64, 128, MAX_BYTES])
  width = tf.reduce_min(tf.boolean_mask(powers, powers >= most))
  raw = tf.cast(
    tf.io.decode_raw(strings, tf.uint8, fixed_length=width), tf.int32
  )
  place = tf.range(width) - (width - n_bytes[..., None])
  moved = tf.gather(raw, tf.maximum(place, 0), batch_dims=2)
  return RowStops(tf.where(place >= 0, moved, _ANY), n_bytes > 0, spelling)


def start(
  stops: RowStops, ids: tf.Tensor, length: tf.Tensor, n_sampled: tf.Tensor
) -> tf.Tensor:  # -> int32 [B, R]
  """Returns the last bytes of the text that each row has so far.

  Args:
    stops: the stop strings.
    ids: int32 [B, T], the tokens of prompt and text.
    length: int32 [B], how many of the tokens count.
    n_sampled: int32 [B], how many of these, at the end, are text.
  """
  n_rows, _, n_bytes = sizes(stops.strings)
  recent = tf.fill([n_rows, n_bytes - 1 + stops.spelling.width], _NONE)
  # Each token has at least one byte, so earlier tokens cannot be part of a
  # string that is still incomplete.
  n_read = tf.minimum(tf.minimum(n_sampled, length), n_bytes - 1)

  def step(back, recent):
    token = tf.gather(ids, tf.maximum(length - back, 0), batch_dims=1)
    longer, _ = _push(recent, token, stops.spelling)
    return back - 1, tf.where((back <= n_read)[:, None], longer, recent)

  most = tf.reduce_max(tf.concat([n_read, [0]], 0))
  return tf.while_loop(lambda back, _: back > 0, step, (most, recent))[1]


def advance(
  stops: RowStops, recent: tf.Tensor, token: tf.Tensor
) -> tuple[tf.Tensor, tf.Tensor]:
  """Adds a token to each row: [B, R], int32 [B] -> [B, R], bool [B].

  Returns:
    The last bytes, and whether a string ends with one of the token's bytes.
  """
  width, n_bytes = stops.spelling.width, sizes(stops.strings)[2]
  recent, n_new = _push(recent, token, stops.spelling)
  # Windows that end with each of the last W bytes: [B, W, 1, L].
  place = tf.range(width)[:, None] + tf.range(n_bytes)
  windows = tf.gather(recent, place, axis=1)[:, :, None]
  strings = stops.strings[:, None]  # [B, 1, K, L]
  matches = tf.reduce_all((windows == strings) | (strings == _ANY), -1)
  is_new = tf.range(width) >= width - n_new[:, None]  # [B, W]
  ends = matches & stops.is_used[:, None] & is_new[..., None]
  return recent, tf.reduce_any(ends, [1, 2])


def _push(recent, token, spelling):
  """Appends a token's bytes; returns the last R bytes and the number added."""
  first = tf.gather(spelling.start, token)
  n_new = tf.gather(spelling.start, token + 1) - first
  place = first[:, None] + tf.range(spelling.width)
  last = sizes(spelling.bytes)[0] - 1
  new = tf.gather(spelling.bytes, tf.minimum(place, last))
  both = tf.concat([recent, tf.cast(new, tf.int32)], 1)
  kept = tf.range(sizes(recent)[1]) + n_new[:, None]
  return tf.gather(both, kept, batch_dims=1), n_new
