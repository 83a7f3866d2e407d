"""The signatures that need one forward pass and generate nothing.

Shapes: B rows, T tokens, S cache slots, L layers, V vocabulary.
"""

import tensorflow as tf

from minigpt.config import GPTConfig
from minigpt.generation.alternatives import WIDTH, most_likely
from minigpt.model.hooks import Hook, capture, no_hook
from minigpt.model.kv_cache import Caches, KVCache, cached_gpt
from minigpt.model.layers import cross_entropy, sizes
from minigpt.model.params import Params
from minigpt.model.transformer import unembed
from minigpt.serving.input_checks import (
  Tensors,
  require,
  require_at_most,
  require_same_slots,
)
from minigpt.serving.prompts import PromptReader
from minigpt.tokenizers import Tokenizer, in_graph_base


class ForwardSignatures(tf.Module):
  """A trained model with the signatures that need one forward pass."""

  def __init__(
    self, p: Params, config: GPTConfig, tokenizer: Tokenizer, pads: bool
  ):
    """Keeps the model and its tokenizer.

    Args:
      p: the parameters, which may be quantized.
      config: of the model.
      tokenizer: of the model.
      pads: pad prompts to the whole context, as XLA needs a fixed shape.
    """
    super().__init__(name='server')
    self.prompts = PromptReader(tokenizer, config, pads)
    self.params, self._config = p, config

  def score(self, text: tf.Tensor) -> Tensors:
    """Computes the log-probability of each text, given its first token."""
    read = self.prompts.texts(text, 'text', self._config.context_length + 1)
    # The last token is only predicted; a text of one token reads that token.
    n_read = tf.maximum(sizes(read.ids)[1] - 1, 1)
    hidden, _ = self._hidden(read.ids[:, :n_read])
    targets = tf.pad(read.ids, [[0, 0], [0, 1]])[:, 1 : n_read + 1]
    n_scored = read.length - 1
    is_scored = tf.range(n_read) < n_scored[:, None]

    def log_prob_of(row):
      hidden, targets, is_scored = row
      nats = cross_entropy(self._unembed(hidden), targets)
      return tf.reduce_sum(tf.where(is_scored, -nats, 0.0))

    # Row by row, as the logits of a whole batch could exceed the memory.
    log_prob = tf.map_fn(
      log_prob_of,
      (hidden, targets, is_scored),
      parallel_iterations=1,
      fn_output_signature=tf.TensorSpec([]),
    )
    mean = log_prob / tf.cast(tf.maximum(n_scored, 1), tf.float32)
    return {
      'log_prob': log_prob,
      'num_tokens': n_scored,
      'perplexity': tf.exp(-mean),
      'num_dropped': read.num_dropped,
    }

  def embed(self, text: tf.Tensor) -> Tensors:
    """Averages the last hidden state over each text's tokens."""
    read = self.prompts.texts(text, 'text')
    hidden, _ = self._hidden(read.ids)
    is_token = tf.range(sizes(read.ids)[1]) < read.length[:, None]
    total = tf.reduce_sum(tf.where(is_token[..., None], hidden, 0.0), 1)
    return {
      'embedding': total / tf.cast(read.length, tf.float32)[:, None],
      'num_dropped': read.num_dropped,
    }

  def next_token(self, prompt: tf.Tensor, k: tf.Tensor) -> Tensors:
    """Returns the `k` most likely next tokens, best first."""
    k = require_at_most(k, WIDTH, 'k', 1)
    read = self.prompts.texts(prompt, 'prompt')
    hidden, _ = self._hidden(read.ids, query_index=read.length - 1)
    probabilities = tf.nn.softmax(self._unembed(hidden[:, 0]))
    ids, best = most_likely(probabilities, k)
    spelled = tf.gather(self.prompts.tokenizer.tokens, tf.maximum(ids, 0))
    text = tf.where(ids >= 0, spelled, '')
    return {
      'tokens': ids,
      'text': in_graph_base.replace_invalid_utf8(text),
      'text_bytes': text,
      'probabilities': best,
      'num_dropped': read.num_dropped,
    }

  def prefill(self, ids: tf.Tensor, prompt_len: tf.Tensor) -> Tensors:
    """Computes logits and caches, for clients that sample themselves."""
    read = self.prompts.ids(ids, prompt_len)
    hidden, caches = self._hidden(read.ids, query_index=read.length - 1)
    answer = self._logits_and_caches(hidden, caches)
    return answer | {'num_dropped': read.num_dropped}

  def decode_step(
    self,
    token: tf.Tensor,
    position: tf.Tensor,
    keys: tf.Tensor,
    values: tf.Tensor,
  ) -> Tensors:
    """Adds one token to each row; returns logits and caches of S + 1 slots."""
    n_slots = tf.shape(keys)[3]
    values = require_same_slots(values, n_slots)
    token = self.prompts.require_ids(token, 'token')
    position = require(
      (position >= 0) & (position < self._config.context_length),
      position,
      'position',
      f'must lie in [0, {self._config.context_length})',
    )
    position = require(
      position <= n_slots, position, 'position', 'is beyond keys and values'
    )
    longer = [[0, 0], [0, 0], [0, 0], [0, 1], [0, 0]]
    keys, values = (
      tf.unstack(tf.pad(x, longer), axis=1) for x in (keys, values)
    )
    hidden, caches = cached_gpt(
      token[:, None],
      self.params,
      self._config,
      tuple(map(KVCache, keys, values)),
      position,
    )
    return self._logits_and_caches(hidden, caches)

  def attention(self, prompt: tf.Tensor) -> Tensors:
    """Returns the attention weights of every layer and head.

    Rows and columns beyond a prompt's tokens are 0; all other rows sum to 1.
    """
    read = self.prompts.texts(prompt, 'prompt')
    _, seen = capture(self._hidden, '*.attn.weights')(read.ids)
    is_token = tf.range(sizes(read.ids)[1]) < read.length[:, None]
    maps = tf.stack(list(seen.values()), 1)
    return {
      'tokens': tf.where(is_token, read.ids, -1),
      'weights': tf.where(is_token[:, None, None, :, None], maps, 0.0),
      'num_dropped': read.num_dropped,
    }

  def _logits_and_caches(self, hidden: tf.Tensor, caches: Caches) -> Tensors:
    """Returns logits [B, V], keys and values [B, L, H, S, K]."""
    return {
      'logits': self._unembed(hidden[:, 0]),
      'keys': tf.stack([cache.k for cache in caches], 1),
      'values': tf.stack([cache.v for cache in caches], 1),
    }

  def _hidden(
    self,
    ids: tf.Tensor,
    hook: Hook = no_hook,
    query_index: tf.Tensor | None = None,
  ) -> tuple[tf.Tensor, Caches]:
    """Returns the last hidden state and the caches, as `cached_gpt` does."""
    # Every row starts at position 0.
    zeros = tf.zeros([sizes(ids)[0]], tf.int32)
    return cached_gpt(
      ids, self.params, self._config, None, zeros, hook, query_index
    )

  def _unembed(self, hidden: tf.Tensor) -> tf.Tensor:
    return unembed(hidden, self.params, self._config)
