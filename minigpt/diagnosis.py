"""Where the numbers broke: a step made again, piece by piece.

`trace` is the model with a name for every tensor on the way. It runs eagerly,
so it is slow, and used for one batch: that of a step whose loss or gradient
is not finite.

Shapes: A accumulated gradients, B batch, T context, D emb_dim, V vocabulary.
"""

import tensorflow as tf

from minigpt import params as params_lib
from minigpt.attention import attention
from minigpt.config import GPTConfig, TrainConfig
from minigpt.model import mlp, unembed
from minigpt.ops import cross_entropy, dropout, fold, layernorm
from minigpt.params import Params, named_leaves
from minigpt.training import TrainState, step_rng


def trace(
  windows: tf.Tensor,
  p: Params,
  config: GPTConfig,
  rng: tf.Tensor | None,
) -> dict[str, tf.Tensor]:  # int [B, T + 1]
  """Every tensor from the embeddings to the loss, in the order of its making;
  `loss` is what `model.loss_fn` gives."""
  c, tokens = config, windows[:, :-1]
  x = tf.gather(p.wte, tokens) + p.wpe[: tokens.shape[1]]
  found = {'embeddings': (x := dropout(x, c.drop_rate, fold(rng, 0)))}
  for i, b in enumerate(p.blocks):
    key, name = fold(rng, i + 1), f'blocks.{i}'
    h = found[f'{name}.ln_1'] = layernorm(x, b.ln_1)
    h = attention(h, b.attn, c.n_heads, c.drop_rate, fold(key, 0))
    found[f'{name}.attn'] = h
    x = found[f'{name}.attn + residual'] = x + h
    h = found[f'{name}.ln_2'] = layernorm(x, b.ln_2)
    h = found[f'{name}.mlp'] = mlp(h, b.mlp)
    x = x + dropout(h, c.drop_rate, fold(key, 1))
    found[f'{name}.mlp + residual'] = x
  x = found['ln_f'] = layernorm(x, p.ln_f)
  logits = found['logits'] = unembed(x, p, c)
  each = found['cross_entropy'] = cross_entropy(logits, windows[:, 1:])
  return found | {'loss': tf.reduce_mean(each)}


def culprit(
  windows: tf.Tensor, state: TrainState, config: GPTConfig, recipe: TrainConfig
) -> str:  # int [A, B, T + 1]
  """The first tensor of a step that is not finite, in words.

  Looked at are the state before the step, then for each accumulated batch
  what is computed forward, then backward.
  """
  for part, tree in state.parts().items():
    for name, leaf in named_leaves(tree).items():
      if _is_broken(leaf):
        return f'{part}.{name} was not finite before the step'
  for i in range(windows.shape[0]):
    rng = fold(step_rng(state.step, config, recipe), i)
    found = _broken_in(windows[i], state.params, config, recipe, rng)
    if found:
      return found
  return (
    'made again piece by piece, the step is finite: it overflows only as '
    'compiled'
  )


def _broken_in(windows, params, config, recipe, rng) -> str:
  with tf.GradientTape() as tape:
    weights = params_lib.cast(params, recipe.compute_dtype)
    forward = trace(windows, weights, config, rng)
  for name, tensor in forward.items():
    if _is_broken(tensor):
      return f'{name} was the first to break in the forward pass'
  # Backward, the loss comes first; a weight comes after what it produced.
  sources = dict(reversed(forward.items())) | named_leaves(params)
  gradients = tape.gradient(forward['loss'], list(sources.values()))
  for name, gradient in zip(sources, gradients, strict=True):
    if _is_broken(tf.convert_to_tensor(gradient)):
      return (
        f'the gradient of {name} was the first to break in the backward pass'
      )
  return ''


def _is_broken(x: tf.Tensor) -> bool:
  return x.dtype.is_floating and not bool(tf.reduce_all(tf.math.is_finite(x)))
