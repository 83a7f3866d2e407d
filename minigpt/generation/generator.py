"""Text in, text out: the host's side of generation.

Shapes are rounded up to powers of two, so prompts of new lengths reuse the
programs that are compiled already.
"""

import codecs
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from minigpt.compiler import backend, jit
from minigpt.config import GPTConfig
from minigpt.errors import UsageError
from minigpt.generation import (
  beam_search,
  decode,
  logits_processors,
  prompt_lookup,
)
from minigpt.kernels.quantize import W8A8
from minigpt.model.params import Params
from minigpt.tokenizers import Tokenizer

_CHUNK = 16  # Tokens between two looks at the text, for stops and streaming.
_SPECULATED_CHUNK = 64  # At its end, a draft is cut.
_MOST_DRAFTED = 64
# Fields of a request that change logits.
_RULES = ('repetition_penalty', 'min_new_tokens', 'logit_bias', 'banned')
_SMALLEST = 16  # Smallest bucket.


class Request(NamedTuple):
  """What to write, and how; see `decoding.Sampling`, `logit_rules`, `beam`.

  Raises UsageError from `check` where a value is out of its range.
  """

  max_new_tokens: int = 200
  temperature: float = 0.8
  top_k: int = 0
  top_p: float = 1.0
  seed: int = 0
  stop: Sequence[str] = ()
  repetition_penalty: float = 1.0
  min_new_tokens: int = 0
  logit_bias: Mapping[int, float] = {}
  banned: Sequence[str] = ()
  num_beams: int = 1  # from 2 on, nothing is drawn: temperature plays no part
  length_penalty: float = 1.0
  speculate: int = 0  # tokens guessed ahead; the text is the same, see there

  @property
  def has_rules(self) -> bool:
    usual = Request()
    return any(getattr(self, name) != getattr(usual, name) for name in _RULES)

  def check(self) -> 'Request':
    for holds, name, rule in (
      (self.max_new_tokens > 0, 'max_new_tokens', 'must be greater than 0'),
      (0 <= self.temperature < np.inf, 'temperature', 'must be 0 or more'),
      (self.top_k >= 0, 'top_k', 'must be 0 or more'),
      (0 < self.top_p <= 1, 'top_p', 'must lie in (0, 1]'),
      (all(self.stop), 'stop', 'must not be empty'),
      (
        0.01 <= self.repetition_penalty <= 100,
        'repetition_penalty',
        'must lie in [0.01, 100]',
      ),
      (
        0 <= self.min_new_tokens <= self.max_new_tokens,
        'min_new_tokens',
        'must lie between 0 and max_new_tokens',
      ),
      (all(self.banned), 'banned', 'must not be empty'),
      (self.num_beams > 0, 'num_beams', 'must be greater than 0'),
      (
        0 <= self.speculate <= _MOST_DRAFTED,
        'speculate',
        f'must lie in [0, {_MOST_DRAFTED}]',
      ),
      (
        not self.speculate or self.temperature == 0,
        'speculate',
        'guesses the likeliest tokens, so temperature must be 0',
      ),
      (
        not self.speculate or (self.num_beams == 1 and not self.has_rules),
        'speculate',
        f'works without num_beams, {", ".join(_RULES)}',
      ),
    ):
      if not holds:
        raise UsageError(f'{name}={getattr(self, name)}: it {rule}')
    return self


def bucket(n: int, limit: int) -> int:
  """The next power of two from `n`, at least 16 and at most `limit`."""
  return min(max(_SMALLEST, 1 << (n - 1).bit_length()), limit)


class Completer:
  """Continues prompts with one model; keeps its compiled programs."""

  def __init__(
    self,
    p: Params,
    config: GPTConfig,
    tokenizer: Tokenizer,
    compile: str = 'auto',
    compute_dtype: str = 'float32',
    frozen: bool = False,
  ):
    """
    Args:
      compute_dtype: what `p` computes in.
      frozen: `p` never changes.
    """
    self.tokenizer = tokenizer
    self.config = config
    self.n_traces = 0  # How often a program was compiled.
    self._rounds = isinstance(p.wte, W8A8)
    mode = backend.resolve_mode(compile, compute_dtype)

    def start(prompts, length, room):
      self.n_traces += 1
      return decode.start(prompts, length, p, config, room.shape[0])

    def generate(state, n_new, sampling, rules):
      self.n_traces += 1
      return decode.generate(
        state, n_new, _CHUNK, sampling, p, config, tokenizer.end_of_text, rules
      )

    def speculate(state, n_new, n_drafted):
      self.n_traces += 1
      return prompt_lookup.generate(
        state,
        n_new,
        _SPECULATED_CHUNK,
        n_drafted.shape[0],
        p,
        config,
        tokenizer.end_of_text,
      )

    def search(state, n_new, width, length_penalty, rules):
      self.n_traces += 1
      return beam_search.search(
        state,
        n_new,
        state.window.shape[1],
        width.shape[0],
        length_penalty,
        p,
        config,
        tokenizer.end_of_text,
        rules,
      )

    self._start, self._generate, self._speculate, self._search = (
      jit.compiled(f, mode, frozen, inference=True)
      for f in (start, generate, speculate, search)
    )

  def __call__(
    self,
    prompts: Sequence[str],
    request: Request,
    on_text: Callable[[int, str], None] = lambda row, text: None,
  ) -> list[str]:
    """Continues each prompt; row i draws with seed `request.seed + i`.

    Args:
      on_text: called with a row and the text that it has newly written.

    Returns:
      The new text of each row, without its prompt and stop string.

    Raises:
      UsageError: a value of the request is out of its range.
      InputError: a prompt holds what the tokenizer does not know.
    """
    request.check()
    if request.speculate and self._rounds:
      raise UsageError(
        f'speculate={request.speculate}: weights=w8a8 read several tokens '
        'more coarsely than one, and would not write the same text; try int8'
      )
    rules = _rules(request, len(prompts), self.tokenizer)
    if request.num_beams > 1:
      return self._best_beams(prompts, request, rules, on_text)
    rows = [TextRow(self.tokenizer, request.stop) for _ in prompts]
    # Drafts are read whole, where there is room for them.
    state = self._first_state(
      prompts, request.max_new_tokens + request.speculate
    )
    sampling = _sampling(request, len(prompts))
    chunk = _SPECULATED_CHUNK if request.speculate else _CHUNK
    for n_drawn in range(0, request.max_new_tokens, chunk):
      n_new = tf.constant(min(chunk, request.max_new_tokens - n_drawn))
      if request.speculate:
        # The length of a draft is a shape: XLA needs it when it compiles.
        n_drafted = tf.zeros([request.speculate, 0])
        state, drawn, _ = self._speculate(state, n_new, n_drafted)
      else:
        state, drawn = self._generate(state, n_new, sampling, rules)
      self._read(rows, state, drawn.tokens.numpy(), n_drawn, on_text)
      done = [row.stopped for row in rows]
      if all(done):
        break
      state = state._replace(done=tf.constant(done))
    for i, row in enumerate(rows):
      on_text(i, row.finish())
    return [row.text for row in rows]

  def _best_beams(self, prompts, request, rules, on_text):
    state = self._first_state(prompts, request.max_new_tokens)
    n_new, context = request.max_new_tokens, self.config.context_length
    if state.length.numpy().max() + n_new > context:
      raise UsageError(
        f'max_new_tokens={n_new}: with the prompt it exceeds the context of '
        f'{context}, and beams cannot slide; ask for fewer'
      )
    # The number of beams is a shape: XLA needs it when it compiles.
    width = tf.zeros([request.num_beams, 0])
    length_penalty = tf.constant(request.length_penalty)
    found = self._search(
      state, tf.constant(n_new), width, length_penalty, rules
    )
    rows = [TextRow(self.tokenizer, request.stop) for _ in prompts]
    for i, row in enumerate(rows):
      n = int(found.n_tokens[i, 0])
      tokens = found.tokens[i, 0, :n].numpy()
      ends = n and tokens[-1] == self.tokenizer.end_of_text
      on_text(i, row.add(tokens[: n - 1] if ends else tokens))
      on_text(i, row.finish())
    return [row.text for row in rows]

  def _first_state(self, prompts, max_new_tokens):
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
    # The size of `room` is its shape: XLA needs it when it compiles.
    return self._start(padded, lengths, tf.zeros([room, 0]))

  def _read(self, rows, state, tokens, n_before, on_text):
    counts = state.n_drawn.numpy() - n_before
    ended = state.done.numpy()
    for i, row in enumerate(rows):
      if not row.stopped:
        n = counts[i] - 1 if ended[i] else counts[i]  # The end is no text.
        on_text(i, row.add(tokens[i, :n]))
        row.stopped |= bool(ended[i])


def _rules(
  request: Request, n_rows: int, tokenizer: Tokenizer
) -> logits_processors.Rules | None:
  """The rules of every row; None where the request has none."""
  if not request.has_rules:
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
  banned = ()
  if request.banned:
    pieces = [tokenizer.decode_bytes([i]) for i in range(n_tokens)]
    banned = logits_processors.ban(request.banned, pieces)
  return logits_processors.Rules(
    repetition_penalty=tf.fill([n_rows], request.repetition_penalty),
    min_new_tokens=tf.fill([n_rows], request.min_new_tokens),
    bias=tf.constant(bias),
    banned=banned,
  )


def encode_prompt(tokenizer: Tokenizer, prompt: str) -> np.ndarray:
  """int32 [T]; an empty prompt is the end of the text before it.

  Raises:
    UsageError: the prompt is empty, and the tokenizer knows no such end.
    InputError: it holds what the tokenizer does not know.
  """
  ids = tokenizer.encode(prompt)
  if len(ids):
    return ids
  if tokenizer.end_of_text is None:
    raise UsageError('the prompt is empty; give at least one character')
  return np.array([tokenizer.end_of_text], np.int32)


def _sampling(request: Request, n_rows: int) -> decode.Sampling:
  return decode.Sampling(
    temperature=tf.fill([n_rows], float(request.temperature)),
    top_k=tf.fill([n_rows], request.top_k),
    top_p=tf.fill([n_rows], float(request.top_p)),
    seed=request.seed + tf.range(n_rows),
  )


class TextRow:
  """The text of one row as it grows.

  What could be the beginning of a stop string or of a character is held back
  until the next tokens decide.
  """

  def __init__(self, tokenizer: Tokenizer, stop: Sequence[str]):
    self.text = ''
    self.stopped = False
    self._tokenizer = tokenizer
    self._stop = stop
    self._utf8 = codecs.getincrementaldecoder('utf-8')('replace')
    self._n_given = 0

  def add(self, tokens: np.ndarray) -> str:
    """Takes new tokens in; returns the text that is certain by now."""
    self.text += self._utf8.decode(self._tokenizer.decode_bytes(tokens))
    ends = [self.text.find(stop, self._n_given) for stop in self._stop]
    ends = [end for end in ends if end >= 0]
    if ends:
      self.text = self.text[: min(ends)]
      self.stopped = True
      return self._give(len(self.text))
    held = max(map(len, self._stop), default=1) - 1
    return self._give(max(self._n_given, len(self.text) - held))

  def finish(self) -> str:
    """Returns what was held back."""
    if not self.stopped:
      self.text += self._utf8.decode(b'', final=True)
    return self._give(len(self.text))

  def _give(self, end: int) -> str:
    new = self.text[self._n_given : end]
    self._n_given = end
    return new
