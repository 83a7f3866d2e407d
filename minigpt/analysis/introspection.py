"""What a model makes of a prompt: where it looks and what it expects.

Shapes: T tokens, L layers, H heads, V vocabulary, K likeliest tokens.
"""

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from minigpt.config import GPTConfig
from minigpt.errors import UsageError
from minigpt.model.hooks import capture
from minigpt.model.layers import cross_entropy, layernorm
from minigpt.model.params import Params
from minigpt.model.transformer import gpt, unembed
from minigpt.tokenizers import Tokenizer


class Likeliest(NamedTuple):
  """The K likeliest tokens, from the likeliest on."""

  ids: np.ndarray  # int32 [..., K]
  probs: np.ndarray  # f32 [..., K]


class Inspection(NamedTuple):
  ids: np.ndarray  # int32 [T], the prompt
  attention: np.ndarray  # f32 [L, H, T, T]; row t is what token t looks at
  surprise: np.ndarray  # f32 [T - 1], nats; of each token after the first
  next_tokens: Likeliest  # [T, K], after each token
  lens: Likeliest  # [L + 1, T, K], after the embedding and each block


def inspect(
  ids: np.ndarray, p: Params, config: GPTConfig, k: int = 10
) -> Inspection:
  """Reads a prompt once and keeps what came by.

  Args:
    ids: int [T], T from 1 to the context length.

  Raises:
    UsageError: the prompt is empty or does not fit the context.
  """
  if not 0 < len(ids) <= config.context_length:
    raise UsageError(
      f'the prompt has {len(ids)} tokens; give at least 1 and at most '
      f'context_length={config.context_length}'
    )
  ids = tf.cast(ids, tf.int32)
  patterns = 'embedding', '*.attn.weights', '*.residual'
  logits, seen = capture(gpt, *patterns)(ids[None], p, config)
  layers = range(config.n_layers)
  stream = [seen['embedding'], *(seen[f'blocks.{i}.residual'] for i in layers)]
  weights = [seen[f'blocks.{i}.attn.weights'][0] for i in layers]
  return Inspection(
    ids.numpy(),
    tf.stack(weights).numpy(),
    cross_entropy(logits[0, :-1], ids[1:]).numpy(),
    likeliest(logits[0], k),
    logit_lens((x[0] for x in stream), p, config, k),
  )


def likeliest(logits: tf.Tensor, k: int) -> Likeliest:  # [..., V] -> [..., K]
  probs = tf.nn.softmax(tf.cast(logits, tf.float32))
  top = tf.math.top_k(probs, min(k, logits.shape[-1]))
  return Likeliest(top.indices.numpy(), top.values.numpy())


def logit_lens(
  stream: Iterable[tf.Tensor], p: Params, config: GPTConfig, k: int
) -> Likeliest:  # [..., D] each -> [len(stream), ..., K]
  """What the model would say if each state of the residual stream were its
  last (nostalgebraist 2020, 'interpreting GPT: the logit lens')."""
  said = [
    likeliest(unembed(layernorm(x, p.ln_f), p, config), k) for x in stream
  ]
  return Likeliest(*map(np.stack, zip(*said, strict=True)))


_VISIBLE = str.maketrans({' ': '·', '\n': '⏎', '\t': '⇥', '\r': '␍'})


def label(token_id: int, tokenizer: Tokenizer) -> str:
  """A token as a short text in which white space can be seen."""
  text = tokenizer.decode([token_id]).translate(_VISIBLE)
  return text if text.isprintable() and text else f'#{token_id}'
