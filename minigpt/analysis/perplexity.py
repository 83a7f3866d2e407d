"""How good a model is: on running text, and on examples with a right answer.

Shapes: B rows, T tokens.
"""

import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from minigpt.compiler import jit
from minigpt.config import GPTConfig
from minigpt.data import batches as data
from minigpt.data.jsonl import Choice, Pair
from minigpt.errors import InputError
from minigpt.generation.generator import Completer, Request, bucket
from minigpt.model.layers import cross_entropy
from minigpt.model.params import Params
from minigpt.model.transformer import gpt
from minigpt.tokenizers import Tokenizer
from minigpt.training.step import compiled_eval_step, evaluate_batches

# Wraps an iterable to show how far it has come: (iterable, its length).
Watch = Callable[[Iterable, int], Iterable]

_TOKENS_PER_BATCH = 4096
_PROMPTS_PER_BATCH = 32


class Model(NamedTuple):
  params: Params
  config: GPTConfig
  tokenizer: Tokenizer


def running_text(
  model: Model,
  tokens: np.ndarray,
  window: int,
  stride: int,
  watch: Watch = lambda batches, n: batches,
) -> dict[str, Any]:
  """Perplexity and bits per byte of all tokens but the first.

  Each token is scored once, in a window of `window` tokens of which only the
  last `stride` are new. The recipe of transformers' guide to perplexity takes
  one token fewer: its max_length is `window + 1`.

  Args:
    tokens: int [N], N at least 2.
  """
  batch_size = max(1, _TOKENS_PER_BATCH // window)
  n_windows = len(data.eval_starts(len(tokens), window, stride))
  batches = data.eval_batches(tokens, window, batch_size, stride)
  step = compiled_eval_step(model.params, model.config, 'float32')
  found = evaluate_batches(
    step, watch(batches, math.ceil(n_windows / batch_size))
  )
  n_scored = len(tokens) - 1
  n_bytes = sum(
    len(model.tokenizer.decode_bytes(part))
    for part in np.array_split(tokens[1:], n_scored // 100_000 + 1)
  )
  return {
    'loss': found.loss,
    'perplexity': math.exp(min(found.loss, 700)),
    'bits_per_byte': found.loss * n_scored / n_bytes / math.log(2),
    'accuracy': found.accuracy,
    'tokens': n_scored,
    'bytes': n_bytes,
  }


class Continuation(NamedTuple):
  """A text of which only the end is scored."""

  where: str
  context: np.ndarray  # int32 [T]
  target: np.ndarray  # int32 [T]


class Scores(NamedTuple):
  log_prob: np.ndarray  # f64 [N], of the whole target in nats
  is_greedy: np.ndarray  # bool [N], whether greedy decoding writes it


def score(
  model: Model,
  continuations: Sequence[Continuation],
  watch: Watch = lambda batches, n: batches,
) -> Scores:
  """Scores each target given its context, cut at the left where too long.

  Raises:
    InputError: a target alone is longer than the model's context.
  """
  room = model.config.context_length + 1
  for c in continuations:
    if len(c.target) >= room:
      raise InputError(
        f'{c.where}: its ending has {len(c.target)} tokens, the context only '
        f'{room - 1}; leave it out'
      )
  step = _compiled_score_step(model.params, model.config)
  log_prob = np.zeros(len(continuations))
  is_greedy = np.zeros(len(continuations), bool)
  batches = _batches_by_length(continuations, room)
  for places in watch(batches, len(batches)):
    batch = _batch([continuations[i] for i in places], room)
    found = [part.numpy()[: len(places)] for part in step(*batch)]
    log_prob[places], is_greedy[places] = found
  return Scores(log_prob, is_greedy)


def _compiled_score_step(p: Params, config: GPTConfig):
  @jit.compiled
  def score_step(windows, weights):  # int [B, T + 1], f32 [B, T] -> [B], [B]
    logits = gpt(windows[:, :-1], p, config)
    targets = windows[:, 1:]
    log_prob = -tf.reduce_sum(weights * cross_entropy(logits, targets), -1)
    hits = tf.equal(tf.argmax(logits, -1, targets.dtype), targets)
    return log_prob, tf.reduce_all(hits | (weights == 0), -1)

  return score_step


def _width(continuation: Continuation, room: int) -> int:
  n = len(continuation.context) + len(continuation.target)
  return bucket(min(n, room) - 1, room - 1)


def _batches_by_length(
  continuations: Sequence[Continuation], room: int
) -> list[list[int]]:
  """Places of continuations that share a width, so little is padded."""
  by_width = {}
  for i, continuation in enumerate(continuations):
    by_width.setdefault(_width(continuation, room), []).append(i)
  return [
    places[i : i + _rows(width)]
    for width, places in sorted(by_width.items())
    for i in range(0, len(places), _rows(width))
  ]


def _rows(width: int) -> int:
  return max(1, _TOKENS_PER_BATCH // width)


def _batch(rows: list[Continuation], room: int) -> data.EvalBatch:
  width = _width(rows[0], room)
  windows = np.zeros([_rows(width), width + 1], np.int32)
  weights = np.zeros([_rows(width), width], np.float32)
  for i, row in enumerate(rows):
    ids = np.concatenate([row.context, row.target])[-room:]
    windows[i, : len(ids)] = ids
    weights[i, len(ids) - 1 - len(row.target) : len(ids) - 1] = 1
  return data.EvalBatch(windows, weights)


def encode(tokenizer: Tokenizer, where: str, text: str) -> np.ndarray:
  """Raises InputError that says where the text stands."""
  try:
    return tokenizer.encode(text)
  except InputError as error:
    raise InputError(f'{where}: {error}') from None


def _context(tokenizer: Tokenizer, where: str, text: str) -> np.ndarray:
  ids = encode(tokenizer, where, text)
  if len(ids):
    return ids
  if tokenizer.end_of_text is None:
    raise InputError(f'{where}: there is no text before its ending')
  return np.array([tokenizer.end_of_text], np.int32)


def multiple_choice(
  model: Model,
  choices: Sequence[Choice],
  watch: Watch = lambda batches, n: batches,
) -> dict[str, Any]:
  """Whether the likeliest ending is the right one (Zellers et al. 2019).

  `accuracy` compares the probabilities of whole endings, `accuracy_norm` those
  per character (Gao et al. 2021, the evaluation harness of EleutherAI).
  """
  continuations = [
    Continuation(
      c.where,
      _context(model.tokenizer, c.where, c.context),
      encode(model.tokenizer, c.where, f' {ending}'),
    )
    for c in choices
    for ending in c.endings
  ]
  log_prob = score(model, continuations, watch).log_prob
  hits, hits_norm, first = 0, 0, 0
  for choice in choices:
    of_choice = log_prob[first : first + len(choice.endings)]
    lengths = np.array([len(ending) + 1 for ending in choice.endings])
    hits += np.argmax(of_choice) == choice.label
    hits_norm += np.argmax(of_choice / lengths) == choice.label
    first += len(choice.endings)
  return {
    'accuracy': float(hits / len(choices)),
    'accuracy_norm': float(hits_norm / len(choices)),
    'examples': len(choices),
  }


def last_word(
  model: Model,
  pairs: Sequence[Pair],
  watch: Watch = lambda batches, n: batches,
) -> dict[str, Any]:
  """How often greedy decoding writes the last word (Paperno et al. 2016).

  `perplexity` is per word, as Radford et al. 2019 (table 3) report it.
  """
  continuations = [
    Continuation(
      p.where,
      _context(model.tokenizer, p.where, p.prompt),
      encode(model.tokenizer, p.where, p.completion),
    )
    for p in pairs
  ]
  found = score(model, continuations, watch)
  return {
    'accuracy': float(found.is_greedy.mean()),
    'perplexity': math.exp(min(-found.log_prob.mean(), 700)),
    'examples': len(pairs),
  }


def edit_distance(a: str, b: str) -> int:
  """Fewest insertions, deletions and substitutions from `a` to `b`.

  Wagner & Fischer 1974, one row of the table at a time.
  """
  codes = np.array(list(map(ord, b)), np.int64)
  column = np.arange(len(b) + 1)
  row = column
  for i, character in enumerate(a, 1):
    substituted = row[:-1] + (codes != ord(character))
    entered = np.minimum(substituted, row[1:] + 1)
    # Insertions run along the row: each costs 1 more than its left neighbour.
    row = np.concatenate([[i], entered]) - column
    row = np.minimum.accumulate(row) + column
  return int(row[-1])


def character_error_rate(found: Sequence[str], wanted: Sequence[str]) -> float:
  """Edits over the characters wanted, both summed over all texts."""
  n_edits = sum(edit_distance(f, w) for f, w in zip(found, wanted, strict=True))
  return n_edits / sum(map(len, wanted))


def completions(
  model: Model,
  pairs: Sequence[Pair],
  watch: Watch = lambda batches, n: batches,
) -> list[str]:
  """What greedy decoding writes after each prompt, up to the end of text."""
  ids = [_context(model.tokenizer, p.where, p.prompt) for p in pairs]
  order = sorted(range(len(pairs)), key=lambda i: len(ids[i]))
  stop = ('\n',) if model.tokenizer.end_of_text is None else ()
  longest = max(
    len(encode(model.tokenizer, p.where, p.completion)) for p in pairs
  )
  request = Request(max_new_tokens=longest + 16, temperature=0.0, stop=stop)
  complete = Completer(*model)
  texts = [''] * len(pairs)
  starts = range(0, len(pairs), _PROMPTS_PER_BATCH)
  for start in watch(starts, len(starts)):
    places = order[start : start + _PROMPTS_PER_BATCH]
    prompts = [pairs[i].prompt for i in places]
    # A short batch is filled up: it shares the program of the others.
    filled = prompts + prompts[-1:] * (_PROMPTS_PER_BATCH - len(prompts))
    for i, text in zip(places, complete(filled, request), strict=False):
      texts[i] = text
  return texts


def exactness(
  model: Model,
  pairs: Sequence[Pair],
  watch: Watch = lambda batches, n: batches,
) -> dict[str, Any]:
  """How close greedy completions come to those wanted."""
  found = completions(model, pairs, watch)
  wanted = [pair.completion for pair in pairs]
  return {
    'exact_match': float(
      np.mean([f == w for f, w in zip(found, wanted, strict=True)])
    ),
    'character_error_rate': character_error_rate(found, wanted),
    'examples': len(pairs),
  }
