"""Asks SQLite how many of a model's queries are valid.

  python -m examples.queries.check --workdir=runs/queries/model

A query is valid where SQLite compiles it for the shop's tables: its grammar is
right, and every column stands in a table that is read. The measure beside it
are character n-grams that were counted in the same text. The model also writes
under the grammar of `grammar.py`: pip install 'minigpt[grammar]'.
"""

import argparse
import json
import random
import sqlite3
from collections.abc import Collection, Sequence
from dataclasses import replace
from pathlib import Path

from examples.ngram import NGram
from examples.queries import grammar
from examples.queries.make_queries import SCHEMA
from minigpt.checkpoints.loading import load_trained
from minigpt.checkpoints.workdir import load_config
from minigpt.generation.generator import Generator
from minigpt.generation.grammar import Grammar
from minigpt.generation.request import Request

LONGEST = 256  # Characters; no query of the data has more.


def is_valid(query: str, shop: sqlite3.Connection) -> bool:
  try:
    shop.execute(f'EXPLAIN {query}')
  except (sqlite3.Error, sqlite3.Warning):
    return False
  return query.startswith('SELECT ')


def shares(queries: Sequence[str], known: Collection[str]) -> dict[str, float]:
  """Of valid queries, and of those among them that are not `known`."""
  shop = sqlite3.connect(':memory:')
  shop.executescript(SCHEMA)
  valid = [query for query in queries if is_valid(query, shop)]
  return {
    'valid': len(valid) / len(queries),
    'valid_and_new': sum(q not in known for q in valid) / len(queries),
  }


def by_counting(text: str, order: int, n: int) -> list[str]:
  """Queries of an n-gram model."""
  model, rng = NGram(text, order), random.Random(0)
  queries = []
  for _ in range(n):
    query = '\n'
    while len(query) < LONGEST and not query.endswith('\n', 1):
      query += model.sample(query, rng)
    queries.append(query.strip('\n'))
  return queries


def by_model(
  workdir: Path, n: int, grammars: Sequence[Grammar] = ()
) -> list[str]:
  """Queries of a trained model at temperature 1, under a grammar if any."""
  model = load_trained(workdir)
  complete = Generator(
    model.model.params, model.run.model, model.tokenizer, grammars=grammars
  )
  request = Request(LONGEST, temperature=1.0, stop=('\n',))
  if grammars:  # Which tells by itself where a query ends.
    request = replace(request, stop=(), grammar=grammars[0].name)
  return complete(['\n'] * n, request)


def main() -> None:
  parser = argparse.ArgumentParser(description=__doc__)
  parser.add_argument('--workdir', type=Path, required=True)
  parser.add_argument('--samples', type=int, default=300)
  arguments = parser.parse_args()
  text = Path(load_config(arguments.workdir).data.dataset).read_text('utf-8')
  n = arguments.samples
  found = {f'{k}-gram': by_counting(text, k, n) for k in (2, 4, 8)}
  found['gpt'] = by_model(arguments.workdir, n)
  form = Grammar('query', grammar.regex())
  found['gpt, grammar'] = by_model(arguments.workdir, n, [form])
  known = set(text.split('\n'))
  for name, queries in found.items():
    print(json.dumps({'model': name, **shares(queries, known)}))
  print('\n'.join(found['gpt, grammar'][:5]))


if __name__ == '__main__':
  main()
