"""Text in, text out: runs the decoding programs on prompts.

Lengths are rounded up to powers of two, so that prompts of different lengths
share compiled programs.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from minigpt.compiler import backend, jit
from minigpt.config import GPTConfig
from minigpt.config.validation import as_strings
from minigpt.errors import UsageError, unknown
from minigpt.generation import (
  beam_search,
  constraint,
  decode,
  grammar_table,
  logits_processors,
  prompt_lookup,
)
from minigpt.generation.constraint import Constraint
from minigpt.generation.detokenizer import Detokenizer
from minigpt.generation.grammar import Grammar
from minigpt.generation.request import Request
from minigpt.generation.sampling import Sampling, select_sampling
from minigpt.kernels.quantize import W8A8
from minigpt.model.params import Params
from minigpt.tokenizers import Tokenizer, encode_prompt

_CHUNK = 16  # Tokens per call; the host then streams text and looks for stops.
_DRAFTED_CHUNK = 64  # Longer, as the end of a chunk cuts a draft short.
_MIN_BUCKET = 16

OnText = Callable[[int, str], None]


def bucket(n: int, limit: int) -> int:
  """Rounds up to a power of two, at least 16 and at most `limit`."""
  return min(max(_MIN_BUCKET, 1 << (n - 1).bit_length()), limit)


class Programs:
  """The compiled functions of one model.

  A size that XLA must know to compile is passed as the shape of a tensor
  [size, 0], so that `tf.function` traces once for each size.

  Attributes:
    n_traces: how often a function was traced.
  """

  def __init__(
    self,
    p: Params,
    config: GPTConfig,
    stop_token: int | None,
    mode: str,
    frozen: bool,
  ) -> None:
    """Prepares the functions; each is compiled at its first call.

    Args:
      p: the weights, by reference.
      config: of the model.
      stop_token: a row that generates it is done.
      mode: one of `COMPILE_MODES`.
      frozen: `p` never changes.
    """
    self.n_traces = 0
    self._model = p, config
    self._stop_token = stop_token
    self.start, self.generate, self.speculate, self.search = (
      jit.compiled(f, mode, frozen, inference=True)
      for f in (self._start, self._generate, self._speculate, self._search)
    )

  def _start(self, prompts, length, room):
    self.n_traces += 1
    return decode.start(prompts, length, *self._model, room.shape[0])

  def _generate(self, state, n_new, sampling, rules, grammars):
    self.n_traces += 1
    return decode.generate(
      state,
      n_new,
      _CHUNK,
      sampling,
      *self._model,
      self._stop_token,
      rules,
      grammars=grammars,
    )

  def _speculate(self, state, n_new, draft):
    self.n_traces += 1
    n_drafted = draft.shape[0]
    return prompt_lookup.generate(
      state, n_new, _DRAFTED_CHUNK, n_drafted, *self._model, self._stop_token
    )

  def _search(self, state, n_new, beams, length_penalty, rules, grammars):
    self.n_traces += 1
    return beam_search.search(
      state,
      n_new,
      state.window.shape[1],
      beams.shape[0],
      length_penalty,
      *self._model,
      self._stop_token,
      rules,
      grammars,
    )


class Generator:
  """Generates text after prompts, with one model and its compiled programs.

  Attributes:
    tokenizer: of the model.
    config: of the model.
    programs: the compiled functions.
  """

  def __init__(
    self,
    p: Params,
    config: GPTConfig,
    tokenizer: Tokenizer,
    compile: str = 'auto',
    compute_dtype: str = 'float32',
    frozen: bool = False,
    grammars: Sequence[Grammar] = (),
  ) -> None:
    """Prepares the programs; each is compiled at its first call.

    Args:
      p: the weights, by reference: a call uses their values at that time.
      config: of the model.
      tokenizer: of the model.
      compile: one of `COMPILE_MODES`.
      compute_dtype: dtype in which `p` computes.
      frozen: `p` never changes.
      grammars: those that a request can name.

    Raises:
      InputError: a grammar cannot be used with this vocabulary.
    """
    self.tokenizer = tokenizer
    self.config = config
    self._table = grammar_table.build(grammars, tokenizer) if grammars else None
    self._rounds_activations = isinstance(p.wte, W8A8)
    mode = backend.resolve_mode(compile, compute_dtype)
    self.programs = Programs(p, config, tokenizer.end_of_text, mode, frozen)

  def __call__(
    self,
    prompts: Sequence[str],
    request: Request,
    on_text: OnText = lambda row, text: None,
  ) -> list[str]:
    """Generates text after each prompt; row i has the seed `request.seed + i`.

    Args:
      prompts: texts; only the end counts of one longer than the context.
      request: options of the generation.
      on_text: called with a row's index and its new text, as text arrives.

    Returns:
      The new text of each row, without its prompt and stop string.

    Raises:
      UsageError: a value of the request is out of its range.
      InputError: a prompt contains text that the tokenizer cannot encode.
    """
    request.check()
    prompts = as_strings(prompts)
    if request.speculate and self._rounds_activations:
      raise UsageError(
        f'speculate={request.speculate}: weights=w8a8 round several tokens '
        'at once more coarsely than one, so the text would differ; try int8'
      )
    rules = _make_rules(request, len(prompts), self.tokenizer)
    grammars = self._constraint(request, len(prompts))
    texts = [Detokenizer(self.tokenizer, request.stop) for _ in prompts]
    if request.num_beams > 1:
      self._search(prompts, request, rules, grammars, texts, on_text)
    else:
      self._sample(prompts, request, rules, grammars, texts, on_text)
    for i, text in enumerate(texts):
      on_text(i, text.finish())
    return [text.text for text in texts]

  def _constraint(self, request: Request, n_rows: int) -> Constraint | None:
    """Returns the grammar of all rows; None where the request names none."""
    if not request.grammar:
      return None
    names = self._table.names if self._table else ()
    if self._table is None or request.grammar not in names:
      raise unknown('grammar', request.grammar, names)
    if request.max_new_tokens < (least := self._table.least(request.grammar)):
      raise UsageError(
        f'max_new_tokens={request.max_new_tokens}: the shortest text of '
        f'grammar {request.grammar} has {least} tokens'
      )
    limit = tf.fill([n_rows], request.max_new_tokens)
    return Constraint(constraint.tables(self._table), limit)

  def _sample(self, prompts, request, rules, grammars, texts, on_text):
    """Generates chunks of tokens, until the text of every row has ended."""
    # The model runs over whole drafts, which may reach past the last token.
    n_slots = request.max_new_tokens + request.speculate
    state = self._first_state(prompts, n_slots, request.grammar)
    sampling = select_sampling(request.options(len(prompts)))
    chunk = _DRAFTED_CHUNK if request.speculate else _CHUNK
    for n_sampled in range(0, request.max_new_tokens, chunk):
      n_new = tf.constant(min(chunk, request.max_new_tokens - n_sampled))
      state, sampled = self._next(
        state, n_new, sampling, rules, grammars, request
      )
      done = state.done.numpy()
      # A stop token is not part of the text; the token that completes a grammar
      # is.
      by_token = done
      if grammars:
        by_token = done & (state.grammar_state.numpy() >= 0)
      n_text = state.n_sampled.numpy() - n_sampled - by_token
      _add_tokens(texts, sampled.tokens.numpy(), n_text, done, on_text)
      # The programs do not know the stop strings: end those rows here.
      stopped = [text.stopped for text in texts]
      if all(stopped):
        break
      state = state._replace(done=tf.constant(stopped))

  def _next(
    self,
    state: decode.State,
    n_new: tf.Tensor,
    sampling: Sampling,
    rules: logits_processors.Rules | None,
    grammars: Constraint | None,
    request: Request,
  ) -> tuple[decode.State, decode.Sampled]:
    if request.speculate:
      draft = tf.zeros([request.speculate, 0])
      return self.programs.speculate(state, n_new, draft)[:2]
    return self.programs.generate(state, n_new, sampling, rules, grammars)

  def _search(self, prompts, request, rules, grammars, texts, on_text):
    """Generates the best beam of each row."""
    state = self._first_state(prompts, request.max_new_tokens, request.grammar)
    n_new, context = request.max_new_tokens, self.config.context_length
    if int(state.length.numpy().max()) + n_new > context:
      raise UsageError(
        f'max_new_tokens={n_new}: with the prompt it exceeds the context of '
        f'{context}, and beams cannot slide; ask for fewer'
      )
    beams = tf.zeros([request.num_beams, 0])
    length_penalty = tf.constant(request.length_penalty)
    found = self.programs.search(
      state, tf.constant(n_new), beams, length_penalty, rules, grammars
    )
    for i, text in enumerate(texts):
      tokens = found.tokens[i, 0, : int(found.n_tokens[i, 0])].numpy()
      # The end-of-text token is not part of the text.
      is_end = len(tokens) > 0 and tokens[-1] == self.tokenizer.end_of_text
      on_text(i, text.add(tokens[:-1] if is_end else tokens))

  def _first_state(
    self, prompts: Sequence[str], max_new_tokens: int, grammar: str
  ) -> decode.State:
    context = self.config.context_length
    ids = [
      encode_prompt(self.tokenizer, prompt)[-context:] for prompt in prompts
    ]
    longest = max(map(len, ids))
    width = bucket(longest, context)
    room = bucket(longest + max_new_tokens, context)
    padded = np.zeros([len(ids), width], np.int32)
    for row, tokens in zip(padded, ids, strict=True):
      row[: len(tokens)] = tokens
    lengths = np.array(list(map(len, ids)), np.int32)
    state = self.programs.start(padded, lengths, tf.zeros([room, 0]))
    if not grammar:
      return state
    assert self._table is not None  # `_constraint` has checked it.
    first = constraint.start_states(self._table, [grammar] * len(ids))
    return state._replace(grammar_state=tf.constant(first))


def _add_tokens(
  texts: Sequence[Detokenizer],
  tokens: np.ndarray,
  n_text: np.ndarray,
  done: np.ndarray,
  on_text: OnText,
) -> None:
  """Adds the first `n_text[i]` tokens to the text of each row i."""
  for i, text in enumerate(texts):
    if not text.stopped:
      on_text(i, text.add(tokens[i, : n_text[i]]))
      text.stopped |= bool(done[i])


def _make_rules(
  request: Request, n_rows: int, tokenizer: Tokenizer
) -> logits_processors.Rules | None:
  """Returns the same rules for each row; None where the request has none."""
  if not request.changes_logits:
    return None
  n_tokens = tokenizer.vocab_size
  bias = np.zeros([n_rows, n_tokens], np.float32)
  for token, value in request.logit_bias.items():
    if not 0 <= token < n_tokens:
      raise UsageError(
        f'logit_bias: token {token} is not one of the {n_tokens} of the '
        'vocabulary'
      )
    bias[:, token] = value
  banned: Any = ()
  if request.banned:
    pieces = [tokenizer.decode_bytes([i]) for i in range(n_tokens)]
    banned = logits_processors.ban(request.banned, pieces)
  rules = logits_processors.select_rules(request.options(n_rows))
  return rules._replace(bias=tf.constant(bias), banned=banned)
