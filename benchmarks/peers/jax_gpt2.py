"""GPT-2 in plain JAX: one jitted step, prefill, and loop of decoding.

Shapes: B batch, T tokens, S cache slots, H heads, K head size, D width.
"""

import functools
import math

import harness
import jax
import jax.numpy as jnp


def tree(a):
  """The weights as {'wte', 'wpe', 'ln_f', 'blocks': [{...}]}."""
  flat = {name: jnp.asarray(w) for name, w in harness.weights(a).items()}

  def under(prefix, names):
    return {
      name: [
        flat[f'{prefix}{name}.{part}']
        for part in ('weight', 'bias')
        if f'{prefix}{name}.{part}' in flat
      ]
      for name in names
    }

  block = ('ln_1', 'attn.c_attn', 'attn.c_proj', 'ln_2')
  block += ('mlp.c_fc', 'mlp.c_proj')
  blocks = [under(f'h.{i}.', block) for i in range(a.layers)]
  return under('', ('wte', 'wpe', 'ln_f')) | {'blocks': blocks}


def cast(params, dtype):
  return jax.tree.map(lambda w: w.astype(dtype), params)


def dtype_of(a):
  if a.weights == 'int8':
    raise harness.UnableError('the JAX model here has no int8')
  is_f32 = a.weights == a.compute_dtype == 'float32'
  return jnp.float32 if is_f32 else jnp.bfloat16


def layernorm(x, p):
  h = x.astype(jnp.float32)
  h = h - h.mean(-1, keepdims=True)
  y = h * jax.lax.rsqrt((h * h).mean(-1, keepdims=True) + 1e-5)
  return y.astype(x.dtype) * p[0] + p[1]


def linear(x, p):
  return x @ p[0] + p[1]


def attention(q, k, v, mask):  # [B, H, T, K], [B, H, S, K], [T, S]
  scores = jnp.einsum('bhtk,bhsk->bhts', q, k) / math.sqrt(q.shape[-1])
  scores = jnp.where(mask, scores.astype(jnp.float32), -jnp.inf)
  weights = jax.nn.softmax(scores).astype(v.dtype)
  return jnp.einsum('bhts,bhsk->bhtk', weights, v)


def block(x, p, heads, cache, position):
  """The next residual, and keys and values with those of `x` written in."""
  b, t, d = x.shape
  qkv = linear(layernorm(x, p['ln_1']), p['attn.c_attn'])
  q, k, v = jnp.moveaxis(qkv.reshape(b, t, 3, heads, -1), (2, 3), (0, 2))
  if cache is not None:
    at = (0, 0, position, 0)
    k, v = (
      jax.lax.dynamic_update_slice(old, new, at)
      for old, new in zip(cache, (k, v), strict=True)
    )
  mask = jnp.arange(k.shape[2]) <= position + jnp.arange(t)[:, None]
  y = jnp.moveaxis(attention(q, k, v, mask), 1, 2).reshape(b, t, d)
  x = x + linear(y, p['attn.c_proj'])
  y = jax.nn.gelu(linear(layernorm(x, p['ln_2']), p['mlp.c_fc']))
  return x + linear(y, p['mlp.c_proj']), (k, v)


def hidden(params, tokens, heads, caches=None, position=0):
  """[B, T] -> [B, T, D] and the caches."""
  places = position + jnp.arange(tokens.shape[1])
  x = params['wte'][0][tokens] + params['wpe'][0][places]
  updated = []
  caches = caches or [None] * len(params['blocks'])
  for p, cache in zip(params['blocks'], caches, strict=True):
    x, cache = block(x, p, heads, cache, position)
    updated.append(cache)
  return layernorm(x, params['ln_f']), updated


def logits(params, x):
  return (x @ params['wte'][0].T).astype(jnp.float32)


def loss_fn(params, windows, heads, dtype):
  params = cast(params, dtype)
  scores = logits(params, hidden(params, windows[:, :-1], heads)[0])
  likely = jax.nn.log_softmax(scores)
  return -jnp.take_along_axis(likely, windows[:, 1:, None], -1).mean()


@functools.partial(jax.jit, static_argnums=(2, 3), donate_argnums=0)
def train_step(state, windows, heads, dtype):
  """Clipping at norm 1 and AdamW; matrices decay."""
  params, mu, nu, n = state
  loss, grads = jax.value_and_grad(loss_fn)(params, windows, heads, dtype)
  norm = jnp.sqrt(sum((g * g).sum() for g in jax.tree.leaves(grads)))
  grads = jax.tree.map(lambda g: g * jnp.minimum(1, 1 / norm), grads)
  n = n + 1
  mu = jax.tree.map(lambda m, g: 0.9 * m + 0.1 * g, mu, grads)
  nu = jax.tree.map(lambda v, g: 0.95 * v + 0.05 * g * g, nu, grads)

  def update(w, m, v):
    direction = m / (1 - 0.9**n) / (jnp.sqrt(v / (1 - 0.95**n)) + 1e-8)
    return w - 3e-4 * (direction + (0.1 * w if w.ndim > 1 else 0))

  return (jax.tree.map(update, params, mu, nu), mu, nu, n), loss


@functools.partial(jax.jit, static_argnums=2)
def next_logits(params, prompts, heads):
  return logits(params, hidden(params, prompts, heads)[0][:, -1])


@functools.partial(jax.jit, static_argnums=(3, 4))
def greedy(params, prompts, n, heads, n_out):
  """The n most likely tokens a row, of [B, n_out]."""
  b, t = prompts.shape
  p = params
  shape = (b, heads, t + n_out, p['wte'][0].shape[1] // heads)
  empty = jnp.zeros(shape, p['wte'][0].dtype)
  caches = [(empty, empty)] * len(p['blocks'])
  x, caches = hidden(p, prompts, heads, caches, 0)
  out = jnp.zeros((b, n_out), jnp.int32)
  out = out.at[:, 0].set(logits(p, x[:, -1]).argmax(-1))

  def step(i, carry):
    out, caches = carry
    last = jax.lax.dynamic_slice_in_dim(out, i - 1, 1, 1)
    x, caches = hidden(p, last, heads, caches, t + i - 1)
    token = logits(p, x[:, 0]).argmax(-1)
    return out.at[:, i].set(token), caches

  return jax.lax.fori_loop(1, n, step, (out, caches))[0]


def train(a):
  params = tree(a)
  zeros = jax.tree.map(jnp.zeros_like, params)
  state = params, zeros, jax.tree.map(jnp.copy, zeros), jnp.zeros([])
  windows, dtype = jnp.asarray(harness.windows(a)), dtype_of(a)

  def step():
    nonlocal state
    state, loss = train_step(state, windows, a.heads, dtype)
    return jax.device_get(loss)

  return harness.train_work(a, step)


def prefill(a):
  params = cast(tree(a), dtype_of(a))
  prompts = jnp.asarray(harness.prompts(a))
  score = functools.partial(next_logits, params, prompts, a.heads)
  return harness.prefill_work(a, lambda: jax.device_get(score()))


def decode(a):
  params = cast(tree(a), dtype_of(a))
  prompts = jnp.asarray(harness.prompts(a))

  def generate(n):
    n_out = a.new_tokens + 1
    return jax.device_get(greedy(params, prompts, n, a.heads, n_out))

  return harness.decode_work(a, generate)


if __name__ == '__main__':
  harness.run('JAX', train=train, prefill=prefill, decode=decode)
