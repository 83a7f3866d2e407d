"""The model as a SavedModel: text in, text out, on a stock TensorFlow Serving.

Every signature takes named tensors whose first dimension is the batch, and
answers with such tensors; docs/serving.md describes them. What is wrong with a
request fails it with INVALID_ARGUMENT and the name of the field.

The stock server compiles nothing with XLA, so nothing here asks for it, unless
the export is to be the XLA twin: its text loop is one program a batch size.

Shapes: B rows, T tokens, S cache slots, N new tokens, L layers, V vocabulary.
"""

from collections.abc import Sequence
from typing import NamedTuple

import tensorflow as tf

from minigpt.compiler import jit
from minigpt.config import GPTConfig
from minigpt.errors import UsageError
from minigpt.generation import decode
from minigpt.generation.decode import Sampling
from minigpt.generation.generator import Request
from minigpt.generation.logits_processors import Rules
from minigpt.model.hooks import capture, no_hook
from minigpt.model.kv_cache import KVCache, cached_gpt
from minigpt.model.layers import cross_entropy, sizes
from minigpt.model.params import Params
from minigpt.model.transformer import unembed
from minigpt.tokenizers import Tokenizer, in_graph_base

NEXT_TOKENS = 20  # Width of `next_token`'s answer.

Tensors = dict[str, tf.Tensor]


class Prompt(NamedTuple):
  """What the model is to read."""

  ids: tf.Tensor  # int32 [B, T]; 0 past a row's length
  length: tf.Tensor  # int32 [B], at least 1
  num_dropped: tf.Tensor  # int32 [B], tokens before these that did not fit


def require(
  holds: tf.Tensor, value: tf.Tensor, field: str, rule: str
) -> tf.Tensor:
  """`value` [B], once `holds` [B] is true in all rows.

  Else fails with INVALID_ARGUMENT, naming the field, a value, and the rule.
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
  """The inputs, once all have as many rows as the first."""
  (first, *_), n_rows = inputs, [tf.shape(x)[0] for x in inputs.values()]
  checks = [
    tf.debugging.Assert(
      n == n_rows[0], [f'{name} and {first} must have as many rows:', n, n_rows]
    )
    for name, n in zip(inputs, n_rows, strict=True)
  ]
  with tf.control_dependencies(checks):
    return {name: tf.identity(x) for name, x in inputs.items()}


def keep_end(ids: tf.Tensor, length: tf.Tensor, limit: int) -> Prompt:
  """The last `limit` tokens of each row: int32 [B, T], int32 [B]."""
  dropped = tf.maximum(length - limit, 0)
  length = length - dropped
  n_kept = tf.minimum(sizes(ids)[1], limit)
  place = tf.range(n_kept)[None, :]
  is_token = place < length[:, None]
  source = tf.where(is_token, place + dropped[:, None], 0)
  ids = tf.where(is_token, tf.gather(ids, source, batch_dims=1), 0)
  return Prompt(ids, length, dropped)


class Server(tf.Module):
  """A trained model with the signatures of an export.

  Args:
    p: the parameters, compact or not.
    max_new_tokens_limit: N; no row is continued further.
    stop: text that ends an answer.
    xla: compile the loop that writes text, for prompts padded to the context.
    attention: add the signature that shows what looks at what.
  """

  def __init__(
    self,
    p: Params,
    config: GPTConfig,
    tokenizer: Tokenizer,
    max_new_tokens_limit: int = 256,
    stop: Sequence[str] = (),
    xla: bool = False,
    attention: bool = False,
  ):
    super().__init__(name='server')
    if max_new_tokens_limit < 1:
      raise UsageError(
        f'max_new_tokens_limit={max_new_tokens_limit}: it must be 1 or more'
      )
    self.params = p
    self.tokenizer = tokenizer.in_graph()
    self._config = config
    self._end_of_text = tokenizer.end_of_text
    self._limit = max_new_tokens_limit
    self._cut = _pattern(Request(stop=stop).check().stop)
    self._xla = xla
    self._shows_attention = attention
    self._write = jit.compiled(
      self._write_tokens, 'xla' if xla else 'graph', inference=True
    )

  def signatures(self) -> dict[str, tf.types.experimental.ConcreteFunction]:
    """What `tf.saved_model.save` takes, by name."""
    return {
      name: self._signature(name, inputs)
      for name, inputs in self._inputs().items()
    }

  def _signature(self, name, inputs):
    compute = getattr(self, name)
    specs = {key: spec(key) for key, spec in inputs.items()}

    def signature(**given):
      return compute(**same_rows({key: given[key] for key in specs}))

    graph = jit.compiled(signature, 'graph', inference=True)
    return graph.get_concrete_function(**specs)

  def _inputs(self):
    text, number, cache = _spec(tf.string), _spec(tf.int32), self._cache_spec()
    ids = {'ids': _spec(tf.int32, None), 'prompt_len': number}
    how = {
      'max_new_tokens': number,
      'temperature': _spec(tf.float32),
      'top_k': number,
      'top_p': _spec(tf.float32),
      'seed': _spec(tf.int64),
      'repetition_penalty': _spec(tf.float32),
      'min_new_tokens': number,
    }
    shown = {'attention': {'prompt': text}} if self._shows_attention else {}
    return {
      'serving_default': {'prompt': text},
      'generate': {'prompt': text, **how},
      'generate_ids': {**ids, **how},
      'score': {'text': text},
      'embed': {'text': text},
      'next_token': {'prompt': text, 'k': number},
      'prefill': ids,
      'decode_step': {
        'token': number,
        'position': number,
        'keys': cache,
        'values': cache,
      },
      **shown,
    }

  def _cache_spec(self):
    c = self._config
    return _spec(tf.float32, c.n_layers, c.n_heads, None, c.head_dim)

  def serving_default(self, prompt: tf.Tensor) -> Tensors:
    """`generate` as a request that sets nothing else."""
    usual = Request()
    shape = tf.shape(prompt)
    answer = self.generate(
      prompt,
      tf.fill(shape, min(usual.max_new_tokens, self._limit)),
      tf.fill(shape, usual.temperature),
      tf.fill(shape, usual.top_k),
      tf.fill(shape, usual.top_p),
      tf.fill(shape, tf.constant(usual.seed, tf.int64)),
      tf.fill(shape, usual.repetition_penalty),
      tf.fill(shape, usual.min_new_tokens),
    )
    return {name: answer[name] for name in ('text', 'text_bytes')}

  def generate(self, prompt: tf.Tensor, *how: tf.Tensor, **more) -> Tensors:
    """Continues texts; for the rest of the arguments see `_generate`."""
    return self._generate(self._read(prompt, 'prompt'), *how, **more)

  def generate_ids(
    self, ids: tf.Tensor, prompt_len: tf.Tensor, **how: tf.Tensor
  ) -> Tensors:
    """Continues tokens."""
    return self._generate(self._read_ids(ids, prompt_len), **how)

  def score(self, text: tf.Tensor) -> Tensors:
    """How likely the model finds each text, after its first token."""
    read = self._read(text, 'text', self._config.context_length + 1)
    n_read = tf.maximum(sizes(read.ids)[1] - 1, 1)
    hidden, _ = self._hidden(read.ids[:, :n_read])
    targets = tf.pad(read.ids, [[0, 0], [0, 1]])[:, 1 : n_read + 1]
    n_scored = read.length - 1
    is_scored = tf.range(n_read) < n_scored[:, None]

    def log_prob_of(row):
      hidden, targets, is_scored = row
      nats = cross_entropy(self._unembed(hidden), targets)
      return tf.reduce_sum(tf.where(is_scored, -nats, 0.0))

    # Row by row: the logits of a whole batch could fill the memory.
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
    """The mean of the last hidden state over each text's tokens."""
    read = self._read(text, 'text')
    hidden, _ = self._hidden(read.ids)
    is_token = tf.range(sizes(read.ids)[1]) < read.length[:, None]
    total = tf.reduce_sum(tf.where(is_token[..., None], hidden, 0.0), 1)
    return {
      'embedding': total / tf.cast(read.length, tf.float32)[:, None],
      'num_dropped': read.num_dropped,
    }

  def next_token(self, prompt: tf.Tensor, k: tf.Tensor) -> Tensors:
    """The `k` likeliest next tokens, best first."""
    k = require(
      (k > 0) & (k <= NEXT_TOKENS), k, 'k', f'must lie in [1, {NEXT_TOKENS}]'
    )
    read = self._read(prompt, 'prompt')
    hidden, _ = self._hidden(read.ids, query_index=read.length - 1)
    probabilities = tf.nn.softmax(self._unembed(hidden[:, 0]))
    n_known = min(NEXT_TOKENS, self._config.vocab_size)
    best, ids = tf.math.top_k(probabilities, n_known)
    room = [[0, 0], [0, NEXT_TOKENS - n_known]]
    best, ids = tf.pad(best, room), tf.pad(ids, room)
    place = tf.range(NEXT_TOKENS)
    asked = (place < k[:, None]) & (place < n_known)
    text = tf.where(asked, tf.gather(self.tokenizer.tokens, ids), '')
    return {
      'tokens': tf.where(asked, ids, -1),
      'text': _readable(text),
      'text_bytes': text,
      'probabilities': tf.where(asked, best, 0.0),
      'num_dropped': read.num_dropped,
    }

  def prefill(self, ids: tf.Tensor, prompt_len: tf.Tensor) -> Tensors:
    """Reads tokens, for a client that draws the next ones itself."""
    read = self._read_ids(ids, prompt_len)
    hidden, caches = self._hidden(read.ids, query_index=read.length - 1)
    return {
      'logits': self._unembed(hidden[:, 0]),
      'keys': tf.stack([cache.k for cache in caches], 1),
      'values': tf.stack([cache.v for cache in caches], 1),
      'num_dropped': read.num_dropped,
    }

  def decode_step(
    self,
    token: tf.Tensor,
    position: tf.Tensor,
    keys: tf.Tensor,
    values: tf.Tensor,
  ) -> Tensors:
    """Reads one more token a row; the caches come back one slot longer."""
    n_slots = tf.shape(keys)[3]
    token = self._require_ids(token, 'token')
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
    return {
      'logits': self._unembed(hidden[:, 0]),
      'keys': tf.stack([cache.k for cache in caches], 1),
      'values': tf.stack([cache.v for cache in caches], 1),
    }

  def attention(self, prompt: tf.Tensor) -> Tensors:
    """How much each token of a prompt looks at each, in every layer and head.

    Rows and columns beyond a prompt's tokens are 0; all other rows sum to 1.
    """
    read = self._read(prompt, 'prompt')
    _, seen = capture(self._hidden, '*.attn.weights')(read.ids)
    is_token = tf.range(sizes(read.ids)[1]) < read.length[:, None]
    maps = tf.stack(list(seen.values()), 1)
    return {
      'tokens': tf.where(is_token, read.ids, -1),
      'weights': tf.where(is_token[:, None, None, :, None], maps, 0.0),
      'num_dropped': read.num_dropped,
    }

  def _generate(
    self,
    prompt,
    max_new_tokens,
    temperature,
    top_k,
    top_p,
    seed,
    repetition_penalty,
    min_new_tokens,
  ) -> Tensors:
    n_new = require(
      (max_new_tokens > 0) & (max_new_tokens <= self._limit),
      max_new_tokens,
      'max_new_tokens',
      f'must lie in [1, {self._limit}]',
    )
    sampling = _checked(Sampling(temperature, top_k, top_p, seed))
    rules = _checked_rules(repetition_penalty, min_new_tokens, n_new)
    tokens, n_drawn, n_text, log_prob = self._write(
      prompt, n_new, sampling, rules
    )
    text = self.tokenizer.decode(tokens, n_text)
    if self._cut:
      text = tf.strings.regex_replace(text, self._cut, '')
    return {
      'text': _readable(text),
      'text_bytes': text,
      'tokens': tokens,
      'num_tokens': n_drawn,
      'log_prob': log_prob,
      'num_dropped': prompt.num_dropped,
    }

  def _write_tokens(self, prompt, n_new, sampling, rules):
    """Tokens [B, N]; how many were drawn, how many are text; their log p."""
    ids, context = prompt.ids, self._config.context_length
    if self._xla:
      n_slots = context
      ids = tf.ensure_shape(ids, [None, context])
    else:
      longest = tf.reduce_max(tf.concat([n_new, [1]], 0))
      n_slots = tf.minimum(context, sizes(ids)[1] + longest)
    state = decode.start(ids, prompt.length, self.params, self._config, n_slots)
    state, drawn = decode.generate(
      state,
      n_new,
      self._limit,
      sampling,
      self.params,
      self._config,
      self._end_of_text,
      rules,
    )
    n_text = state.n_drawn - tf.cast(state.done, tf.int32)
    log_prob = tf.reduce_sum(drawn.log_prob, -1)
    return drawn.tokens, state.n_drawn, n_text, log_prob

  def _read(self, text, field, limit=None) -> Prompt:
    """Encodes texts; an empty one is the end of the text before it."""
    in_graph_base.check_utf8(text, field)
    ids = self.tokenizer.encode(text, field)
    length = tf.cast(ids.row_lengths(), tf.int32)
    if self._end_of_text is None:
      length = require(
        length > 0, length, f'length of {field}', 'must hold a character'
      )
    else:
      empty = tf.cast(length == 0, tf.int32)
      ends = tf.fill([tf.reduce_sum(empty)], self._end_of_text)
      ends = tf.RaggedTensor.from_row_lengths(ends, tf.cast(empty, tf.int64))
      ids = tf.concat([ids, ends], 1)
      length += empty
    return self._kept(ids.to_tensor(), length, limit)

  def _read_ids(self, ids, length) -> Prompt:
    n_ids = tf.shape(ids)[1]
    length = require(
      (length > 0) & (length <= n_ids),
      length,
      'prompt_len',
      'must lie in [1, width of ids]',
    )
    prompt = self._kept(ids, length)
    return prompt._replace(ids=self._require_ids(prompt.ids, 'ids'))

  def _kept(self, ids, length, limit=None) -> Prompt:
    context = self._config.context_length
    prompt = keep_end(ids, length, limit or context)
    if self._xla:
      room = [[0, 0], [0, tf.maximum(context - sizes(prompt.ids)[1], 0)]]
      prompt = prompt._replace(ids=tf.pad(prompt.ids, room))
    return prompt

  def _require_ids(self, ids, field):
    known = (ids >= 0) & (ids < self._config.vocab_size)
    rule = f'must lie in [0, {self._config.vocab_size})'
    return require(known, ids, field, rule)

  def _hidden(self, ids, hook=no_hook, query_index=None):
    """The last hidden state, as `cached_gpt` has it, and the caches."""
    zeros = tf.zeros([sizes(ids)[0]], tf.int32)
    return cached_gpt(
      ids, self.params, self._config, None, zeros, hook, query_index
    )

  def _unembed(self, hidden):
    return unembed(hidden, self.params, self._config)


def _spec(dtype, *shape):
  return lambda name: tf.TensorSpec([None, *shape], dtype, name)


def _readable(text: tf.Tensor) -> tf.Tensor:
  return in_graph_base.replace_invalid_utf8(text)


def _checked(how: Sampling) -> Sampling:
  """Fails where `completion.Request` would refuse a value."""
  t, k, p, seed = how
  return Sampling(
    require(
      (t >= 0) & tf.math.is_finite(t), t, 'temperature', 'must be 0 or more'
    ),
    require(k >= 0, k, 'top_k', 'must be 0 or more'),
    require((p > 0) & (p <= 1), p, 'top_p', 'must lie in (0, 1]'),
    seed,
  )


def _checked_rules(penalty, min_new_tokens, max_new_tokens) -> Rules:
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


def _pattern(stop: Sequence[str]) -> str:
  r"""RE2 of the first stop string and all bytes after it; '' for none.

  \C is any byte: what follows need not be UTF-8.
  """
  escaped = [
    ''.join(c if c.isalnum() else rf'\x{{{ord(c):x}}}' for c in text)
    for text in stop
  ]
  return rf'(?:{"|".join(escaped)})\C*' if stop else ''
