"""Holds what a server answers against the model itself, for each tokenizer.

  python benchmarks/answers.py --answers=1000

Exports a small model with random weights and five grammars for each kind of
vocabulary, loads it in a process of its own as TensorFlow Serving does, without
XLA, and compares:

- chunks: tokens and log-probabilities of rows that join and leave batches at
  random, against one loop on the host, far beyond the context, with stop
  strings wherever the text has them;
- grammars: so many answers under each, read by Python's `re` and `jsonschema`;
- the same requests without a grammar, of this export and of one without any.

--xla does the same with the twin for XLA, in this process. It exits with 0 only
if everything agrees. Needs `pip install 'minigpt[grammar]' jsonschema`.
"""

import argparse
import dataclasses
import inspect
import json
import re
import string
import tempfile
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import jsonschema
import numpy as np
import tensorflow as tf

from minigpt import tokenizers
from minigpt.checkpoints import workdir
from minigpt.checkpoints.loading import load_trained
from minigpt.config import GPTConfig
from minigpt.conformance.isolated_process import IsolatedProcess
from minigpt.conformance.serving_session import ServingSession
from minigpt.generation import decode, grammar, grammar_table
from minigpt.generation.detokenizer import Detokenizer
from minigpt.generation.grammar import Grammar
from minigpt.generation.logits_processors import select_rules
from minigpt.generation.request import Request
from minigpt.generation.sampling import select_sampling
from minigpt.model.transformer import GPT
from minigpt.runtime import app, startup
from minigpt.serving import chunks, client
from minigpt.serving.endpoint import Endpoint
from minigpt.serving.export import export
from minigpt.serving.export_files import ExportFiles
from minigpt.serving.options import Options
from minigpt.tokenizers import Tokenizer, encode_prompt

TEXT = string.printable + 'später é' + inspect.getsource(textwrap)
KINDS: dict[str, dict[str, Any]] = {
  'char': {},
  'word': {},
  'gpt2': {},
  'bpe': {'vocab_size': 512, 'special': ('<|user|>',)},
  'bytes': {'kind': 'bpe', 'vocab_size': 257},
}
PLAN = {
  'type': 'object',
  'properties': {
    'name': {'type': 'string', 'maxLength': 6},
    'n': {'type': 'integer'},
    'day': {'type': 'string', 'format': 'date'},
  },
  'required': ['name'],
}
TREE = {
  '$defs': {'leaf': {'enum': ['ab', 1, None, True]}},
  'type': 'array',
  'items': {'anyOf': [{'$ref': '#/$defs/leaf'}, PLAN]},
  'maxItems': 2,
}
GRAMMARS = (
  Grammar('number', r'-?[0-9]{1,4}(\.[0-9]+)?'),
  Grammar('email', r'[a-z]+(\.[a-z]+)*@[a-z]+\.(com|org)'),
  Grammar('answer', '(ja|nein|vielleicht(, später)?)[.!]?'),
  grammar.from_schema('plan', PLAN),
  grammar.from_schema('tree', TREE),
)
CONTEXT, LIMIT = 32, 96
N_NEW = 3 * CONTEXT
REQUESTS = (
  Request(N_NEW, temperature=0.0),
  Request(N_NEW, temperature=0.0, repetition_penalty=1.5),
  Request(N_NEW, temperature=1.0, top_p=0.9, seed=3),
  Request(N_NEW, temperature=1.4, top_k=20, min_p=0.01, seed=2**40),
  Request(N_NEW, temperature=1.0, min_new_tokens=N_NEW // 2, seed=-5),
)
PROMPTS = ('a', 'def wrap(self, text):', 'the text of a paragraph. ' * 20)


class Subject(NamedTuple):
  """A model, and what answers for it."""

  gpt: GPT
  tokenizer: Tokenizer
  grammars: tuple[Grammar, ...]
  endpoint: Endpoint
  plain: Endpoint  # of an export without grammars
  compiled: tuple[int, ...]  # sizes of batches; () without XLA


def subject(folder: Path, name: str, xla: bool) -> Subject:
  """Makes the model, and loads both of its exports."""
  how = {'kind': name, **KINDS[name]}
  tokenizer = tokenizers.build(how.pop('kind'), TEXT, **how)
  # As wide a distribution as it needs to try many ways.
  config = GPTConfig(
    tokenizer.vocab_size, CONTEXT, 16, 2, 1, drop_rate=0.0, init_std=0.3
  )
  gpt = GPT(config)
  workdir.write(folder / 'run', config, gpt.params, tokenizer)
  trained = load_trained(folder / 'run')
  # Words stand between blanks, so a vocabulary of them spells no such form.
  grammars = () if name == 'word' else GRAMMARS
  sizes = (16,) if xla else (1, 2)
  options = Options(max_new_tokens_limit=LIMIT, batch_sizes=sizes, xla=xla)
  load = ServingSession if xla else IsolatedProcess
  made = [
    load(export(trained, folder / each, options._replace(grammars=own)).path)
    for each, own in (('with', grammars), ('plain', ()))
  ]
  return Subject(gpt, tokenizer, grammars, *made, sizes if xla else ())


def rows(it: Subject) -> Iterator[tuple[chunks.Row, np.ndarray, np.ndarray]]:
  """Yields rows, and the tokens and log p that the host has for each.

  Of each request and prompt there is one without a stop string, and one with
  three, of which one stands in the text.
  """
  rng = np.random.default_rng(0)
  generate = tf.function(decode.generate, autograph=False)
  for request in REQUESTS:
    for prompt in PROMPTS:
      ids = encode_prompt(it.tokenizer, prompt)[-CONTEXT:]
      start = decode.start(
        ids[None],
        tf.constant([len(ids)]),
        it.gpt.params,
        it.gpt.config,
        CONTEXT,
      )
      state, sampled = generate(
        start,
        N_NEW,
        N_NEW,
        select_sampling(request.options(1)),
        it.gpt.params,
        it.gpt.config,
        it.tokenizer.end_of_text,
        select_rules(request.options(1)),
      )
      n = int(state.n_sampled[0])
      found = sampled.tokens.numpy()[0, :n], sampled.log_prob.numpy()[0, :n]
      yield chunks.Row(ids, request), *found
      stop = ('never there', *_some_of(it.tokenizer, found[0], rng))
      kept = _until(it.tokenizer, found[0], stop)
      own = dataclasses.replace(request, stop=stop)
      yield chunks.Row(ids, own), found[0][:kept], found[1][:kept]


def _some_of(tokenizer, tokens, rng):
  """Returns two strings, of which at least one stands in the text."""
  text = tokenizer.decode(chunks.text_tokens(tokens, tokenizer.end_of_text))
  places = rng.integers(len(text) or 1, size=2)
  found = [text[i : i + int(rng.integers(1, 9))] for i in places]
  return [each for each in found if each and '\ufffd' not in each]


def _until(tokenizer, tokens, stop):
  """Returns how many tokens there are up to the one that completes a stop."""
  text = Detokenizer(tokenizer, stop)
  for i, token in enumerate(tokens):
    if token != tokenizer.end_of_text:
      text.add([token])
    if text.stopped:
      return i + 1
  return len(tokens)


def compare_chunks(it: Subject) -> str:
  """Continues all rows, in batches and chunks of random sizes."""
  rng, known = np.random.default_rng(1), list(rows(it))
  tokens: list[list[int]] = [[] for _ in known]
  log_probs: list[list[float]] = [[] for _ in known]
  while left := [i for i, (row, *_) in enumerate(known) if not row.done]:
    here = rng.permutation(left)[: rng.integers(1, 17)]
    found = chunks.predict(
      it.endpoint,
      [known[i][0] for i in here],
      int(rng.integers(1, 17)),
      it.compiled,
    )
    for i, chunk in zip(here, found, strict=True):
      tokens[i] += chunk.tokens.tolist()
      log_probs[i] += chunk.log_probs.tolist()
  worst = 0.0
  for i, (row, expected, scores) in enumerate(known):
    assert tokens[i] == expected.tolist(), (i, row.request)
    worst = max(worst, float(np.abs(log_probs[i] - scores).max(initial=0)))
  assert worst < 1e-4, worst
  n = sum(map(len, tokens))
  return f'{len(known)} rows, {n:,} tokens; log p off by {worst:.1g} at most'


def compare_grammars(it: Subject, n_answers: int) -> str:
  """Asks for answers under each grammar, and reads them by other means."""
  shown, files = [], ExportFiles('m', it.tokenizer, CONTEXT)
  table = grammar_table.build(it.grammars, it.tokenizer)
  for each in it.grammars:
    texts = set()
    for first in range(0, n_answers, 50):
      # Every other batch has few tokens more than the shortest answer.
      fewest = table.least(each.name) + first // 100 % 10
      n_new = fewest if first // 50 % 2 else LIMIT // 2
      request = Request(n_new, 1.0, seed=first, grammar=each.name)
      n = min(50, n_answers - first)
      answers = client.generate(it.endpoint, ['a'] * n, request)
      for answer in answers:
        _check_form(each, answer.text)
      texts |= {answer.text for answer in answers}
      own = dataclasses.replace(request, seed=first)
      pieces = client.stream(it.endpoint, 'a', own, files)
      assert ''.join(pieces) == answers[0].text, own
    shown.append(f'{each.name} {len(texts)}')
  return f'{n_answers} answers each, different ones: {", ".join(shown)}'


def _check_form(each: Grammar, text: str) -> None:
  if each.schema is None:
    assert re.fullmatch(each.regex, text), (each.name, text)
  else:
    jsonschema.validate(json.loads(text), each.schema)


def compare_plain(it: Subject) -> str:
  """Holds answers without a grammar against those of an export without any."""
  n = 12
  for request in REQUESTS:
    options = request.options(n)
    inputs = {'prompt': [*PROMPTS] * (n // len(PROMPTS)), **options}
    wanted = it.plain.predict('generate_v2', inputs)
    asked = [('generate_v2', inputs)]
    if it.grammars:
      asked += [('generate_grammar', inputs | {'grammar': [''] * n})]
    for name, given in asked:
      for key, value in it.endpoint.predict(name, given).items():
        np.testing.assert_array_equal(value, wanted[key], f'{name}: {key}')
  return f'{len(REQUESTS) * n} answers, bit for bit'


def main() -> int:
  startup.configure()
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument('--answers', type=int, default=1000)
  parser.add_argument('--tokenizers', nargs='+', default=[*KINDS])
  parser.add_argument('--xla', action='store_true')
  args = parser.parse_args()
  for name in args.tokenizers:
    with tempfile.TemporaryDirectory() as folder:
      it = subject(Path(folder), name, args.xla)
      print(f'{name}: chunks: {compare_chunks(it)}', flush=True)
      print(f'{name}: without a grammar: {compare_plain(it)}', flush=True)
      if it.grammars:
        print(f'{name}: grammars: {compare_grammars(it, args.answers)}')
      it.endpoint.close()
      it.plain.close()
  return 0


if __name__ == '__main__':
  raise SystemExit(app.exit_code(main))
