"""The model as a SavedModel: text in, text out, on an unmodified server.

Every signature takes named tensors whose first dimension is the batch, and
answers with such tensors; docs/reference/signatures.md describes them.

An unmodified TensorFlow Serving compiles nothing with XLA, so nothing here asks
for it, unless the export is made for XLA: then its loop over tokens is one
program for each batch size.

Shapes: B rows, T tokens, S cache slots, N new tokens, L layers, V vocabulary.
"""

import functools
from collections.abc import Sequence
from typing import Any

import tensorflow as tf

from minigpt.compiler import jit
from minigpt.config import GPTConfig
from minigpt.errors import UsageError
from minigpt.generation import automaton, decode, grammar_table, row_stops
from minigpt.generation.alternatives import WIDTH, most_likely
from minigpt.generation.grammar import Grammar
from minigpt.generation.logits_processors import select_rules
from minigpt.generation.request import Request
from minigpt.generation.sampling import select_sampling
from minigpt.generation.sampling_fields import SAMPLING_FIELDS
from minigpt.model.hooks import capture, no_hook
from minigpt.model.kv_cache import KVCache, cached_gpt
from minigpt.model.layers import cross_entropy, sizes
from minigpt.model.params import Params
from minigpt.model.transformer import unembed
from minigpt.serving.grammar_inputs import Begun, GrammarReader
from minigpt.serving.input_checks import (
  Tensors,
  complete_options,
  require,
  require_same_slots,
  require_stops,
  same_rows,
)
from minigpt.serving.prompts import Prompt, PromptReader
from minigpt.serving.sampling_inputs import (
  base_name,
  fields_of,
  signature_name,
  versions,
  with_grammar,
)
from minigpt.tokenizers import Tokenizer, in_graph_base

CHUNK_LIMIT = 64  # Of new tokens in one call of `generate_chunk`.


class Server(tf.Module):
  """A trained model with the signatures of an export."""

  def __init__(
    self,
    p: Params,
    config: GPTConfig,
    tokenizer: Tokenizer,
    max_new_tokens_limit: int = 256,
    stop: Sequence[str] = (),
    xla: bool = False,
    attention: bool = False,
    compute_dtype: str = 'float32',
    grammars: Sequence[Grammar] = (),
  ):
    """Keeps the model and its tokenizer.

    Args:
      p: the parameters, quantized or not.
      config: the model's shape.
      tokenizer: of the model.
      max_new_tokens_limit: N; no row is continued further.
      stop: texts of which each ends an answer.
      xla: compile the loop over tokens, for prompts padded to the context.
      attention: add the signature that shows what looks at what.
      compute_dtype: of matmuls; bfloat16, if the weights are, takes oneDNN.
      grammars: add signatures with which a row can name one of them.

    Raises:
      UsageError, InputError: a limit, a stop or a grammar can't be used.
    """
    super().__init__(name='server')
    self.prompts = PromptReader(tokenizer, config, pads=xla)
    self.params, self._config = p, config
    self._end_of_text = tokenizer.end_of_text
    self._limit = _require_positive(max_new_tokens_limit)
    self._spelling = row_stops.spell(tokenizer.tokens, tokenizer.end_of_text)
    self._stops = _stops(Request(stop=stop).check().stop, tokenizer)
    self._grammars = _grammars(grammars, tokenizer, max_new_tokens_limit)
    self._xla, self._shows_attention = xla, attention
    self._mode = 'graph' if compute_dtype == 'float32' else 'graph-onednn'
    self._loop = self._compiled(self._generate_tokens)
    self._chunk_loop = self._compiled(self._generate_chunk)

  def least_tokens(self) -> dict[str, int]:
    """Returns the fewest tokens of a text of each grammar, by its name."""
    return dict(self._grammars.least) if self._grammars else {}

  @property
  def _chunk_limit(self) -> int:
    return min(self._limit, CHUNK_LIMIT)

  def _compiled(self, loop):
    mode = 'xla' if self._xla else self._mode
    # In a partial, as each function that is an attribute is exported by itself,
    # besides the signatures that call it.
    return functools.partial(jit.compiled(loop, mode, inference=True))

  def signatures(self) -> dict[str, tf.types.experimental.ConcreteFunction]:
    """Returns what `tf.saved_model.save` takes, by name."""
    return {
      name: self._signature(name, inputs)
      for name, inputs in self._inputs().items()
    }

  def _signature(self, name, inputs):
    compute = getattr(self, base_name(name))
    specs = {key: spec(key) for key, spec in inputs.items()}

    def signature(**inputs):
      # In the order of the specs, which is the order of the arguments.
      return compute(**same_rows({key: inputs[key] for key in specs}))

    graph = jit.compiled(signature, self._mode, inference=True)
    return graph.get_concrete_function(**specs)

  def _inputs(self):
    text, number, cache = _spec(tf.string), _spec(tf.int32), self._cache_spec()
    ids = {'ids': _spec(tf.int32, None), 'prompt_len': number}
    chunk = {
      **ids,
      'num_sampled': number,
      'num_alternatives': number,
      'stop': _spec(tf.string, None),
    }
    prompts = {
      'generate': {'prompt': text},
      'generate_ids': ids,
      'generate_chunk': chunk,
    }
    if self._grammars:
      prompts |= _with_grammars(prompts)
    generating = {
      signature_name(base, version): {**prompt, **_option_specs(version)}
      for base, prompt in prompts.items()
      for version in versions(base)
    }
    shown = {'attention': {'prompt': text}} if self._shows_attention else {}
    return {
      'serving_default': {'prompt': text},
      **generating,
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
    """Continues texts as `generate` does, with the defaults of a request."""
    n_new = min(SAMPLING_FIELDS['max_new_tokens'].default, self._limit)
    answer = self.generate(
      prompt, max_new_tokens=tf.fill(tf.shape(prompt), n_new)
    )
    return {name: answer[name] for name in ('text', 'text_bytes')}

  def generate(self, prompt: tf.Tensor, **options: tf.Tensor) -> Tensors:
    """Continues texts; `SAMPLING_FIELDS` has the options, each [B]."""
    return self._generate(self.prompts.texts(prompt, 'prompt'), options)

  def generate_ids(
    self, ids: tf.Tensor, prompt_len: tf.Tensor, **options: tf.Tensor
  ) -> Tensors:
    """Continues tokens; `SAMPLING_FIELDS` has the options, each [B]."""
    return self._generate(self.prompts.ids(ids, prompt_len), options)

  def generate_grammar(
    self, prompt: tf.Tensor, grammar: tf.Tensor, **options: tf.Tensor
  ) -> Tensors:
    """Continues texts as `generate` does; `grammar` is [B], names or ''."""
    return self._generate(
      self.prompts.texts(prompt, 'prompt'), options, grammar
    )

  def generate_ids_grammar(
    self,
    ids: tf.Tensor,
    prompt_len: tf.Tensor,
    grammar: tf.Tensor,
    **options: tf.Tensor,
  ) -> Tensors:
    """Continues tokens as `generate_ids` does; see `generate_grammar`."""
    return self._generate(self.prompts.ids(ids, prompt_len), options, grammar)

  def generate_chunk(
    self,
    ids: tf.Tensor,
    prompt_len: tf.Tensor,
    num_sampled: tf.Tensor,
    num_alternatives: tf.Tensor,
    stop: tf.Tensor,
    **options: tf.Tensor,
  ) -> Tensors:
    """Goes on with texts of which `num_sampled` tokens were sampled before.

    So calls for a few tokens each sample what one call would. All inputs are
    [B], but `ids`, [B, T], and `stop`, [B, K].
    """
    prompt = self.prompts.ids(ids, prompt_len)
    return self._chunk(prompt, num_sampled, num_alternatives, stop, options)

  def generate_chunk_grammar(
    self,
    ids: tf.Tensor,
    prompt_len: tf.Tensor,
    num_sampled: tf.Tensor,
    num_alternatives: tf.Tensor,
    stop: tf.Tensor,
    grammar: tf.Tensor,
    grammar_state: tf.Tensor,
    num_left: tf.Tensor,
    **options: tf.Tensor,
  ) -> Tensors:
    """Goes on as `generate_chunk` does, under the grammar of each row.

    `grammar_state` is 0 at the beginning, and then what came before as
    `next_grammar_state`; `num_left` is how many tokens the answer may still
    have, these among them. All are [B].
    """
    prompt = self.prompts.ids(ids, prompt_len)
    begun = Begun(grammar, grammar_state, num_left)
    return self._chunk(
      prompt, num_sampled, num_alternatives, stop, options, begun
    )

  def _chunk(
    self, prompt, num_sampled, num_alternatives, stop, options, begun=None
  ):
    """Returns what `generate_chunk` does; `begun` says under which grammars."""
    num_sampled = require(
      num_sampled >= 0, num_sampled, 'num_sampled', 'must be 0 or more'
    )
    n_asked = _at_most_width(num_alternatives, 'num_alternatives', 0)
    n_rows = tf.shape(prompt.ids)[0]
    options = complete_options(options, n_rows, self._chunk_limit)
    stop = require_stops(stop)
    constrained: tuple[Any, ...] = ()
    if begun:
      assert self._grammars
      constrained = self._grammars.read_chunk(begun, stop, options, num_sampled)
    # Counted from here by the client, from the first token by the rule.
    options['min_new_tokens'] += num_sampled
    answer = self._chunk_loop(
      prompt,
      num_sampled,
      options['max_new_tokens'],
      select_sampling(options),
      select_rules(options),
      n_asked,
      row_stops.read(stop, self._spelling),
      *constrained,
    )
    return {
      **answer,
      'text_bytes': self._text(answer['tokens'], answer['num_tokens']),
      'num_dropped': prompt.num_dropped,
    }

  def score(self, text: tf.Tensor) -> Tensors:
    """Computes how likely each text is, after its first token."""
    read = self.prompts.texts(text, 'text', self._config.context_length + 1)
    # The last token is predicted, not read; a lone token reads itself.
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
    """Returns the `k` most likely next tokens, the best first."""
    k = _at_most_width(k, 'k', 1)
    read = self.prompts.texts(prompt, 'prompt')
    hidden, _ = self._hidden(read.ids, query_index=read.length - 1)
    probabilities = tf.nn.softmax(self._unembed(hidden[:, 0]))
    ids, best = most_likely(probabilities, k)
    spelled = tf.gather(self.prompts.tokenizer.tokens, tf.maximum(ids, 0))
    text = tf.where(ids >= 0, spelled, '')
    return {
      'tokens': ids,
      'text': _readable(text),
      'text_bytes': text,
      'probabilities': best,
      'num_dropped': read.num_dropped,
    }

  def prefill(self, ids: tf.Tensor, prompt_len: tf.Tensor) -> Tensors:
    """Computes logits and caches, for a client that samples by itself."""
    read = self.prompts.ids(ids, prompt_len)
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
    """Computes one more token a row; the caches return one slot longer."""
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
    return {
      'logits': self._unembed(hidden[:, 0]),
      'keys': tf.stack([cache.k for cache in caches], 1),
      'values': tf.stack([cache.v for cache in caches], 1),
    }

  def attention(self, prompt: tf.Tensor) -> Tensors:
    """Returns how much each token looks at each, in every layer and head.

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

  def _generate(
    self, prompt: Prompt, given: Tensors, grammar: tf.Tensor | None = None
  ) -> Tensors:
    n_rows = tf.shape(prompt.ids)[0]
    options = complete_options(given, n_rows, self._limit)
    constrained: tuple[Any, ...] = ()
    if grammar is not None:
      assert self._grammars
      constrained = self._grammars.read(grammar, options)
    tokens, n_sampled, n_text, n_cut, log_prob = self._loop(
      prompt,
      options['max_new_tokens'],
      select_sampling(options),
      select_rules(options),
      *constrained,
    )
    text = self.prompts.tokenizer.decode(tokens, n_text)
    n_kept = tf.strings.length(text) - n_cut
    text = tf.strings.substr(text, tf.zeros_like(n_kept), n_kept)
    return {
      'text': _readable(text),
      'text_bytes': text,
      'tokens': tokens,
      'num_tokens': n_sampled,
      'log_prob': log_prob,
      'num_dropped': prompt.num_dropped,
    }

  def _generate_tokens(
    self, prompt, n_new, sampling, rules, grammar_state=(), grammars=None
  ):
    """Generates up to N tokens a row.

    Returns:
      The tokens, int32 [B, N]; of each row how many there are, how many of them
      are text, how many of its last bytes are not, and the log p of all.
    """
    state, sampled = decode.generate(
      self._start(prompt, n_new)._replace(grammar_state=grammar_state),
      n_new,
      self._limit,
      sampling,
      self.params,
      self._config,
      self._end_of_text,
      rules,
      self._stops,
      grammars=grammars,
    )
    # The end of text is counted, but is no text; what completes a stop may be,
    # and what completes the text of a grammar is.
    at_end = state.done & (state.stop_state >= 0)
    if grammars:
      at_end &= state.grammar_state >= 0
    n_text = state.n_sampled - tf.cast(at_end, tf.int32)
    n_cut = tf.maximum(-state.stop_state, 0)
    log_prob = tf.reduce_sum(sampled.log_prob, -1)
    return sampled.tokens, state.n_sampled, n_text, n_cut, log_prob

  def _generate_chunk(
    self,
    prompt,
    n_before,
    n_new,
    sampling,
    rules,
    n_alternatives,
    stops,
    grammar_state=(),
    grammars=None,
  ):
    """Returns what `generate_chunk` does, without text."""
    before = row_stops.start(stops, prompt.ids, prompt.length, n_before)
    start = self._start(prompt, n_new)
    state, sampled = decode.generate(
      start._replace(
        n_sampled=n_before, stop_state=before, grammar_state=grammar_state
      ),
      n_new,
      self._chunk_limit,
      sampling,
      self.params,
      self._config,
      self._end_of_text,
      rules,
      stops,
      n_alternatives,
      grammars,
    )
    resumed = {'next_grammar_state': state.grammar_state} if grammars else {}
    return resumed | _chunk_answer(state, sampled, n_before)

  def _text(self, tokens, n_tokens):
    """Returns the bytes of new tokens, without the end of text."""
    if self._end_of_text is not None:
      ends = tf.reduce_any(
        (tokens == self._end_of_text)
        & (tf.range(sizes(tokens)[1]) < n_tokens[:, None]),
        1,
      )
      n_tokens -= tf.cast(ends, tf.int32)
    return self.prompts.tokenizer.decode(tokens, n_tokens)

  def _start(self, prompt, n_new):
    """Returns the state of prompts, with room for `n_new` tokens [B]."""
    ids, context = prompt.ids, self._config.context_length
    # XLA compiles for one shape: the whole context, for any prompt.
    if self._xla:
      n_slots = context
      ids = tf.ensure_shape(ids, [None, context])
    else:
      # The 1 is for a batch without rows, which has no maximum.
      longest = tf.reduce_max(tf.concat([n_new, [1]], 0))
      n_slots = tf.minimum(context, sizes(ids)[1] + longest)
    return decode.start(ids, prompt.length, self.params, self._config, n_slots)

  def _hidden(self, ids, hook=no_hook, query_index=None):
    """Returns the last hidden state and the caches, as `cached_gpt` does."""
    # Every row starts at position 0.
    zeros = tf.zeros([sizes(ids)[0]], tf.int32)
    return cached_gpt(
      ids, self.params, self._config, None, zeros, hook, query_index
    )

  def _unembed(self, hidden):
    return unembed(hidden, self.params, self._config)


def _chunk_answer(state, sampled, n_before):
  """Returns what every version of `generate_chunk` answers, without text."""
  found: Any = sampled.alternatives
  return {
    'tokens': sampled.tokens,
    'num_tokens': state.n_sampled - n_before,
    'log_probs': sampled.log_prob,
    'done': state.done,
    'alternatives': found.tokens,
    'alternative_log_probs': found.scores,
    'next_prompt_len': state.length,
  }


def _require_positive(limit: int) -> int:
  """Returns the limit of new tokens, or raises UsageError."""
  if limit < 1:
    raise UsageError(f'max_new_tokens_limit={limit}: it must be 1 or more')
  return limit


def _spec(dtype, *shape):
  return lambda name: tf.TensorSpec([None, *shape], dtype, name)


def _at_most_width(k: tf.Tensor, field: str, least: int) -> tf.Tensor:
  """Returns how many of the most likely tokens are asked for, once in range."""
  rule = f'must lie in [{least}, {WIDTH}]'
  return require((k >= least) & (k <= WIDTH), k, field, rule)


def _with_grammars(prompts):
  """Returns the inputs of the signatures that also take a grammar."""
  grammar = {'grammar': _spec(tf.string)}
  resumed = {'grammar_state': _spec(tf.int32), 'num_left': _spec(tf.int32)}
  more = {'generate_chunk': grammar | resumed}
  return {
    with_grammar(base): prompt | more.get(base, grammar)
    for base, prompt in prompts.items()
  }


def _option_specs(version):
  fields = fields_of(version)
  return {name: _spec(tf.as_dtype(f.dtype)) for name, f in fields.items()}


def _readable(text: tf.Tensor) -> tf.Tensor:
  return in_graph_base.replace_invalid_utf8(text)


def _grammars(
  grammars: Sequence[Grammar], tokenizer: Tokenizer, limit: int
) -> GrammarReader | None:
  """Returns what reads the grammars of requests; None for none."""
  if not grammars:
    return None
  table = grammar_table.build(grammars, tokenizer)
  for name in table.names:
    if table.least(name) > limit:
      raise UsageError(
        f'max_new_tokens_limit={limit}: the shortest text of grammar {name} '
        f'has {table.least(name)} tokens; raise the limit'
      )
  return GrammarReader(table)


def _stops(stop: Sequence[str], tokenizer: Tokenizer) -> tf.Tensor | None:
  """Returns the table of stop strings, int32 [states, V]; None for none."""
  if not stop:
    return None
  return tf.constant(
    automaton.stop_table(stop, tokenizer.tokens, tokenizer.end_of_text)
  )
