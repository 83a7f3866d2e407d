"""Turns the texts or tokens of a request into tokens for the model.

Shapes: B rows, T tokens.
"""

from typing import NamedTuple

import tensorflow as tf

from minigpt.config import GPTConfig
from minigpt.model.layers import sizes
from minigpt.serving.input_checks import require
from minigpt.tokenizers import Tokenizer, in_graph_base

# GPT-2's tokenizer takes over ten seconds for this many bytes without a blank.
_MOST_BYTES = 2**20


class Prompt(NamedTuple):
  """The tokens that the model reads."""

  ids: tf.Tensor  # int32 [B, T]; 0 past a row's length
  length: tf.Tensor  # int32 [B], at least 1
  num_dropped: tf.Tensor  # int32 [B], earlier tokens that did not fit


class PromptReader(tf.Module):
  """Encodes texts, and keeps the last tokens that fit into the context."""

  def __init__(self, tokenizer: Tokenizer, config: GPTConfig, pads: bool):
    """Keeps the in-graph tokenizer.

    Args:
      tokenizer: of the model.
      config: of the model.
      pads: pad all prompts to the context, for a fixed shape.
    """
    super().__init__(name='prompts')
    self.tokenizer = tokenizer.in_graph()
    self._boundary = tokenizer.boundary
    self._config = config
    self._pads = pads

  def texts(
    self, text: tf.Tensor, field: str, limit: int | None = None
  ) -> Prompt:
    """Encodes texts; an empty text becomes the token `boundary`.

    Args:
      text: string [B], UTF-8, of at most a megabyte each.
      field: the input's name, for error messages.
      limit: how many tokens to keep; None: the context.
    """
    text = _short(text, field)
    in_graph_base.check_utf8(text, field)
    encoded = self.tokenizer.encode(text, field)
    ids, length = encoded.to_tensor(), tf.cast(encoded.row_lengths(), tf.int32)
    if self._boundary is None:
      length = require(
        length > 0, length, f'length of {field}', 'must hold a character'
      )
    else:
      ids, length = _fill_empty(ids, length, self._boundary)
    return self._kept(ids, length, limit)

  def ids(self, ids: tf.Tensor, length: tf.Tensor) -> Prompt:
    """Checks tokens, int32 [B, T], of which each row uses `length` [B]."""
    n_ids = tf.shape(ids)[1]
    length = require(
      (length > 0) & (length <= n_ids),
      length,
      'prompt_len',
      'must lie in [1, width of ids]',
    )
    prompt = self._kept(ids, length)
    return prompt._replace(ids=self.require_ids(prompt.ids, 'ids'))

  def require_ids(self, ids: tf.Tensor, field: str) -> tf.Tensor:
    """Returns tokens, and asserts that all are in the vocabulary."""
    n = self._config.vocab_size
    return require((ids >= 0) & (ids < n), ids, field, f'must lie in [0, {n})')

  def _kept(self, ids, length, limit=None) -> Prompt:
    context = self._config.context_length
    prompt = keep_end(ids, length, limit or context)
    if self._pads:
      room = [[0, 0], [0, tf.maximum(context - sizes(prompt.ids)[1], 0)]]
      prompt = prompt._replace(ids=tf.pad(prompt.ids, room))
    return prompt


def _short(text: tf.Tensor, field: str) -> tf.Tensor:
  """Returns texts, and asserts that none is so long as to block the server."""
  n_bytes = tf.strings.length(text)
  rule = f'must be at most {_MOST_BYTES} bytes'
  checked = require(n_bytes <= _MOST_BYTES, n_bytes, f'length of {field}', rule)
  with tf.control_dependencies([checked]):
    return tf.identity(text)


def _fill_empty(ids: tf.Tensor, length: tf.Tensor, boundary: int):
  """Puts the boundary into rows without a token: int32 [B, T], int32 [B]."""
  # If no row has a token, there is no column yet.
  ids = tf.pad(ids, [[0, 0], [0, tf.cast(sizes(ids)[1] == 0, tf.int32)]])
  first = tf.where(length == 0, boundary, ids[:, 0])
  ids = tf.concat([first[:, None], ids[:, 1:]], 1)
  return ids, tf.maximum(length, 1)


def keep_end(ids: tf.Tensor, length: tf.Tensor, limit: int) -> Prompt:
  """Keeps the last `limit` tokens of each row: int32 [B, T], int32 [B]."""
  dropped = tf.maximum(length - limit, 0)
  length = length - dropped
  n_kept = tf.minimum(sizes(ids)[1], limit)
  place = tf.range(n_kept)[None, :]
  is_token = place < length[:, None]
  # Rows shift left by what they drop; past their end, any index will do.
  source = tf.where(is_token, place + dropped[:, None], 0)
  ids = tf.where(is_token, tf.gather(ids, source, batch_dims=1), 0)
  return Prompt(ids, length, dropped)
