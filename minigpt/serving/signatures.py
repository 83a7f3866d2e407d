"""The model as a SavedModel: text in, text out, on an unmodified server.

This module has the signatures that generate; `forward_signatures` has those of
a single forward pass, `signature_inputs` the inputs of all. The inputs and
outputs of a signature are named tensors with the batch as first dimension;
docs/reference/signatures.md describes them.

An unmodified TensorFlow Serving does not run XLA, so no signature uses it. The
exception is an export made for XLA, whose decoding loop is compiled to one
program for each batch size.

Shapes: B rows, T tokens, N new tokens, V vocabulary.
"""

import functools
from collections.abc import Sequence
from typing import Any

import tensorflow as tf

from minigpt.compiler import backend, jit
from minigpt.config import GPTConfig
from minigpt.errors import UsageError
from minigpt.generation import automaton, decode, grammar_table, row_stops
from minigpt.generation.alternatives import WIDTH
from minigpt.generation.grammar import Grammar
from minigpt.generation.logits_processors import select_rules
from minigpt.generation.request import Request
from minigpt.generation.sampling import select_sampling
from minigpt.generation.sampling_fields import SAMPLING_FIELDS
from minigpt.model.layers import sizes
from minigpt.model.params import Params
from minigpt.serving.forward_signatures import ForwardSignatures
from minigpt.serving.grammar_inputs import Begun, GrammarReader
from minigpt.serving.input_checks import (
  Tensors,
  complete_options,
  require,
  require_at_most,
  require_stops,
  same_rows,
)
from minigpt.serving.prompts import Prompt
from minigpt.serving.sampling_inputs import base_name
from minigpt.serving.signature_inputs import signature_inputs
from minigpt.tokenizers import Tokenizer, in_graph_base

CHUNK_LIMIT = 64  # New tokens in one call of `generate_chunk`.


class Server(ForwardSignatures):
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
      p: the parameters, which may be quantized.
      config: of the model.
      tokenizer: of the model.
      max_new_tokens_limit: N, the largest number of new tokens.
      stop: stop strings, each of which ends an answer.
      xla: compile the decoding loop with XLA, and pad prompts to the context.
      attention: add the signature `attention`.
      compute_dtype: dtype of matmuls; bfloat16 and int8 need oneDNN's kernels,
        and weights in that format.
      grammars: grammars that rows can name, in signatures of their own.

    Raises:
      UsageError, InputError: a limit, a stop string or a grammar is invalid.
    """
    super().__init__(p, config, tokenizer, pads=xla)
    self._end_of_text = tokenizer.end_of_text
    self._limit = _require_positive(max_new_tokens_limit)
    self._spelling = row_stops.spell(tokenizer.tokens, tokenizer.end_of_text)
    self._stops = _stops(Request(stop=stop).check().stop, tokenizer)
    self._grammars = _grammars(grammars, tokenizer, max_new_tokens_limit)
    self._xla, self._shows_attention = xla, attention
    self._mode = backend.served_mode(compute_dtype)
    self._loop = self._compiled(self._generate_tokens)
    self._chunk_loop = self._compiled(self._generate_chunk)

  def least_tokens(self) -> dict[str, int]:
    """Returns the fewest tokens of an answer by the name of its grammar."""
    return dict(self._grammars.least) if self._grammars else {}

  @property
  def _chunk_limit(self) -> int:
    return min(self._limit, CHUNK_LIMIT)

  def _compiled(self, loop):
    mode = 'xla' if self._xla else self._mode
    # A SavedModel also exports every tf.function that is an attribute; the
    # partial hides it.
    return functools.partial(jit.compiled(loop, mode, inference=True))

  def signatures(self) -> dict[str, tf.types.experimental.ConcreteFunction]:
    """Returns the signatures for `tf.saved_model.save`, by name."""
    inputs = signature_inputs(
      self._config, bool(self._grammars), self._shows_attention
    )
    return {name: self._signature(name, inputs[name]) for name in inputs}

  def _signature(self, name, specs):
    compute = getattr(self, base_name(name))

    def signature(**inputs):
      # In the order of the specs, which is that of the arguments.
      return compute(**same_rows({key: inputs[key] for key in specs}))

    graph = jit.compiled(signature, self._mode, inference=True)
    return graph.get_concrete_function(**specs)

  def serving_default(self, prompt: tf.Tensor) -> Tensors:
    """Generates after prompts, with the default options of a request."""
    n_new = min(SAMPLING_FIELDS['max_new_tokens'].default, self._limit)
    answer = self.generate(
      prompt, max_new_tokens=tf.fill(tf.shape(prompt), n_new)
    )
    return {name: answer[name] for name in ('text', 'text_bytes')}

  def generate(self, prompt: tf.Tensor, **options: tf.Tensor) -> Tensors:
    """Generates after prompts; options are those of `SAMPLING_FIELDS`, [B]."""
    return self._generate(self.prompts.texts(prompt, 'prompt'), options)

  def generate_ids(
    self, ids: tf.Tensor, prompt_len: tf.Tensor, **options: tf.Tensor
  ) -> Tensors:
    """Generates after tokens; options are those of `SAMPLING_FIELDS`, [B]."""
    return self._generate(self.prompts.ids(ids, prompt_len), options)

  def generate_grammar(
    self, prompt: tf.Tensor, grammar: tf.Tensor, **options: tf.Tensor
  ) -> Tensors:
    """Generates as `generate` does; `grammar` [B] has names or ''."""
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
    """Generates as `generate_ids` does; see `generate_grammar`."""
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
    """Continues texts of which `num_sampled` tokens were sampled earlier.

    Several calls for a few tokens sample the same as one call. All inputs are
    [B], except `ids`, [B, T], and `stop`, [B, K].
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
    """Continues as `generate_chunk` does, under the grammar of each row.

    `grammar_state` is 0 at first, and then the last `next_grammar_state`;
    `num_left` is how many tokens the answer may still have, including those of
    this call. All are [B].
    """
    prompt = self.prompts.ids(ids, prompt_len)
    begun = Begun(grammar, grammar_state, num_left)
    return self._chunk(
      prompt, num_sampled, num_alternatives, stop, options, begun
    )

  def _chunk(
    self, prompt, num_sampled, num_alternatives, stop, options, begun=None
  ):
    """Implements `generate_chunk`, with the grammars of `begun` if given."""
    num_sampled = require(
      num_sampled >= 0, num_sampled, 'num_sampled', 'must be 0 or more'
    )
    n_asked = require_at_most(num_alternatives, WIDTH, 'num_alternatives', 0)
    n_rows = tf.shape(prompt.ids)[0]
    options = complete_options(options, n_rows, self._chunk_limit)
    stop = require_stops(stop)
    constrained: tuple[Any, ...] = ()
    if begun:
      assert self._grammars
      constrained = self._grammars.read_chunk(begun, stop, options, num_sampled)
    # The client counts from this chunk, the rule from the first token.
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
      'text': in_graph_base.replace_invalid_utf8(text),
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
      The tokens, int32 [B, N]; and for each row the number of tokens, how many
      of them are text, how many bytes to cut off at the end, and the log p.
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
    # An end-of-text token is counted, but is not text. A token that completes a
    # stop string may be text in part; one that completes a grammar is text.
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
    """Generates the answer of `generate_chunk`, without text."""
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
    # XLA compiles for one shape: prompts are padded to the whole context.
    if self._xla:
      n_slots = context
      ids = tf.ensure_shape(ids, [None, context])
    else:
      # The 1 is for a batch without rows, whose maximum is undefined.
      longest = tf.reduce_max(tf.concat([n_new, [1]], 0))
      n_slots = tf.minimum(context, sizes(ids)[1] + longest)
    return decode.start(ids, prompt.length, self.params, self._config, n_slots)


def _chunk_answer(state, sampled, n_before):
  """Returns the outputs of all versions of `generate_chunk`, without text."""
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


def _grammars(
  grammars: Sequence[Grammar], tokenizer: Tokenizer, limit: int
) -> GrammarReader | None:
  """Returns the reader of the grammars of requests; None without grammars."""
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
  """Returns the table of stop strings, int32 [states, V], if there are any."""
  if not stop:
    return None
  return tf.constant(
    automaton.stop_table(stop, tokenizer.tokens, tokenizer.end_of_text)
  )
