"""Looks inside a model at work: its attention and its predictions.

Shapes: T tokens, L layers, H heads, V vocabulary, K most likely tokens.
"""

from collections.abc import Iterable
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from minigpt.config import GPTConfig
from minigpt.errors import UsageError
from minigpt.model.hooks import capture
from minigpt.model.layers import cross_entropy, layernorm
from minigpt.model.params import Params
from minigpt.model.transformer import gpt, unembed
from minigpt.tokenizers import Tokenizer


class TopTokens(NamedTuple):
  """The K most likely tokens, the most likely first."""

  ids: np.ndarray  # int32 [..., K]
  probs: np.ndarray  # f32 [..., K]


class Inspection(NamedTuple):
  """The intermediates of a forward pass over a prompt."""

  ids: np.ndarray  # int32 [T], the prompt
  attention: np.ndarray  # f32 [L, H, T, T]; row t: weights of token t's query
  surprise: np.ndarray  # f32 [T - 1], loss in nats of each later token
  next_tokens: TopTokens  # [T, K], after each token
  lens: TopTokens  # [L + 1, T, K], after the embedding and each block
  norms: np.ndarray  # f32 [L + 1, T], of the residual stream at the same places


def inspect(
  ids: np.ndarray, p: Params, config: GPTConfig, k: int = 10
) -> Inspection:
  """Runs the model once on a prompt, and keeps its intermediates.

  Args:
    ids: int [T], T from 1 to the context length.
    p: the model's parameters.
    config: the model's configuration.
    k: how many of the most likely tokens are kept.

  Raises:
    UsageError: the prompt is empty or does not fit the context.
  """
  if not 0 < len(ids) <= config.context_length:
    raise UsageError(
      f'the prompt has {len(ids)} tokens; give at least 1 and at most '
      f'context_length={config.context_length}'
    )
  ids = np.asarray(ids, np.int32)
  patterns = 'embedding', '*.attn.weights', '*.residual'
  logits, seen = capture(gpt, *patterns)(ids[None], p, config)
  layers = range(config.n_layers)
  stream = [seen['embedding'], *(seen[f'blocks.{i}.residual'] for i in layers)]
  weights = [seen[f'blocks.{i}.attn.weights'][0] for i in layers]
  return Inspection(
    ids,
    tf.stack(weights).numpy(),
    cross_entropy(logits[0, :-1], ids[1:]).numpy(),
    top_tokens(logits[0], k),
    logit_lens((x[0] for x in stream), p, config, k),
    np.stack([tf.norm(x[0], axis=-1).numpy() for x in stream]),
  )


def top_tokens(logits: tf.Tensor, k: int) -> TopTokens:  # [..., V] -> [..., K]
  """Returns the k most likely tokens, or all if V is less than k."""
  probs = tf.nn.softmax(tf.cast(logits, tf.float32))
  top = tf.math.top_k(probs, min(k, logits.shape[-1]))
  return TopTokens(top.indices.numpy(), top.values.numpy())


def logit_lens(
  stream: Iterable[tf.Tensor], p: Params, config: GPTConfig, k: int
) -> TopTokens:  # [..., D] each -> [len(stream), ..., K]
  """Returns the predictions of each residual state, as if it were the last.

  Source: nostalgebraist 2020, 'interpreting GPT: the logit lens'.

  Args:
    stream: states of the residual stream.
    p: the model's parameters.
    config: the model's configuration.
    k: how many of the most likely tokens are kept.
  """
  said = [
    top_tokens(unembed(layernorm(x, p.ln_f), p, config), k) for x in stream
  ]
  return TopTokens(*map(np.stack, zip(*said, strict=True)))


def head_habits(
  attention: np.ndarray,
) -> dict[str, np.ndarray]:  # [L, H, T, T] -> [L, H] each
  """Returns each head's mean attention weight on three common targets.

  They are the previous token, the token itself (Clark et al. 2019, section
  3.1), and the first token, on which heads put weight that they have no use for
  (attention sinks, Xiao et al. 2023). The first two tokens can attend to
  nothing else and are left out; a shorter prompt gives an empty result.
  """
  n = attention.shape[-1]
  looking = np.arange(2, n)
  if not looking.size:
    return {}
  seen: dict[str, Any] = {
    'the previous token': looking - 1,
    'itself': looking,
    'the first token': 0,
  }
  return {
    name: attention[..., looking, places].mean(-1)
    for name, places in seen.items()
  }


_VISIBLE = str.maketrans({' ': '·', '\n': '⏎', '\t': '⇥', '\r': '␍'})


def label(token_id: int, tokenizer: Tokenizer) -> str:
  """Returns a token as a short text with visible white space."""
  text = tokenizer.decode([token_id]).translate(_VISIBLE)
  return text if text.isprintable() and text else f'#{token_id}'
