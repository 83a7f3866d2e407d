"""Tasks with right answers: multiple choice, last words, completions."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from minigpt.analysis.scoring import (
  Continuation,
  Watch,
  encode,
  encode_context,
  score,
  unwatched,
)
from minigpt.analysis.text_metrics import character_error_rate
from minigpt.checkpoints.loading import LoadedModel
from minigpt.data.jsonl import Choice, Pair
from minigpt.data.sequence_packing import ends_with_line
from minigpt.generation.generator import Generator
from minigpt.generation.request import Request

_PROMPTS_PER_BATCH = 32
# New tokens that a completion may have beyond the longest reference.
_SLACK = 16
_LARGEST_LOSS = 700  # exp of a larger loss overflows float64.


def multiple_choice(
  model: LoadedModel, choices: Sequence[Choice], watch: Watch = unwatched
) -> dict[str, Any]:
  """Returns how often the right ending is the most likely one.

  `accuracy` compares the log-probabilities of the endings (Zellers et al.
  2019); `accuracy_norm` divides them by the endings' lengths in characters
  first (Gao et al. 2021, EleutherAI's evaluation harness); `chance` is the
  accuracy of guessing.

  Raises:
    InputError: an example does not fit the model.
  """
  continuations = [
    Continuation(
      c.where,
      encode_context(model.tokenizer, c.where, c.context),
      encode(model.tokenizer, c.where, f' {ending}'),
    )
    for c in choices
    for ending in c.endings
  ]
  log_prob = score(model, continuations, watch).log_prob
  hits, hits_norm, first = 0, 0, 0
  for choice in choices:
    of_choice = log_prob[first : first + len(choice.endings)]
    # Lengths without the leading space, as in the harness.
    lengths = np.array([len(ending) for ending in choice.endings])
    hits += np.argmax(of_choice) == choice.label
    hits_norm += np.argmax(of_choice / lengths) == choice.label
    first += len(choice.endings)
  return {
    'accuracy': float(hits / len(choices)),
    'accuracy_norm': float(hits_norm / len(choices)),
    'chance': float(np.mean([1 / len(c.endings) for c in choices])),
    'examples': len(choices),
  }


def last_word(
  model: LoadedModel, pairs: Sequence[Pair], watch: Watch = unwatched
) -> dict[str, Any]:
  """Returns how often greedy decoding finds the end (Paperno et al. 2016).

  `perplexity` is per word, as Radford et al. 2019 (table 3) report it.

  Raises:
    InputError: an example does not fit the model.
  """
  continuations = [
    Continuation(
      p.where,
      encode_context(model.tokenizer, p.where, p.prompt),
      encode(model.tokenizer, p.where, p.completion),
    )
    for p in pairs
  ]
  found = score(model, continuations, watch)
  return {
    'accuracy': float(found.is_greedy.mean()),
    'perplexity': math.exp(min(-found.log_prob.mean(), _LARGEST_LOSS)),
    'examples': len(pairs),
  }


def exact_match(
  model: LoadedModel, pairs: Sequence[Pair], watch: Watch = unwatched
) -> dict[str, Any]:
  """Compares greedy completions with the references.

  Raises:
    InputError: an example does not fit the model.
  """
  found = complete_greedily(model, pairs, watch)
  wanted = [pair.completion for pair in pairs]
  hits = [f == w for f, w in zip(found, wanted, strict=True)]
  return {
    'exact_match': float(np.mean(hits)),
    'character_error_rate': character_error_rate(found, wanted),
    'examples': len(pairs),
  }


def complete_greedily(
  model: LoadedModel, pairs: Sequence[Pair], watch: Watch = unwatched
) -> list[str]:
  """Generates a greedy completion after each prompt.

  It ends at the end of text, or at a line feed if the tokenizer has no such
  token.
  """
  tokenizer = model.tokenizer
  ids = [encode_context(tokenizer, p.where, p.prompt) for p in pairs]
  longest = max(len(encode(tokenizer, p.where, p.completion)) for p in pairs)
  stop = ('\n',) if ends_with_line(tokenizer) else ()
  request = Request(max_new_tokens=longest + _SLACK, temperature=0.0, stop=stop)
  complete = Generator(model.weights, model.config, tokenizer)
  # Prompts of about the same length share a batch, so little is padded.
  order = sorted(range(len(pairs)), key=lambda i: len(ids[i]))
  texts = [''] * len(pairs)
  starts = range(0, len(pairs), _PROMPTS_PER_BATCH)
  for start in watch(starts, len(starts)):
    places = order[start : start + _PROMPTS_PER_BATCH]
    prompts = [pairs[i].prompt for i in places]
    # Fill the last batch, so that it reuses the compiled program.
    filled = prompts + prompts[-1:] * (_PROMPTS_PER_BATCH - len(prompts))
    for i, text in zip(places, complete(filled, request), strict=False):
      texts[i] = text
  return texts
