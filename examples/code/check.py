"""Lets a model complete lines of code that it has never seen.

  python -m examples.code.check --workdir=runs/code/model

Lines are taken from the validation part of the run and cut at a random place
between two words. Greedy decoding generates the rest, given the text before the
cut. It is counted how much of the rest is right up to the first mistake, how
often all of it is, and how often the whole line can be parsed. Character
n-grams that were counted in the training part are measured in the same way.
"""

import argparse
import ast
import itertools
import json
import random
import re
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from examples.ngram import NGram
from minigpt.checkpoints.loading import Trained, load_trained
from minigpt.data.sources import read_split
from minigpt.generation.generator import Generator
from minigpt.generation.request import Request

LONGEST = 80  # Characters of a completion.


class Cut(NamedTuple):
  before: str  # the text up to the cut
  begun: str  # what the line has of it
  rest: str  # what followed, without the end of the line


def parses(line: str) -> bool:
  """Whether a line is a statement by itself."""
  try:
    return bool(ast.parse(line.strip()).body)
  except (SyntaxError, ValueError):
    return False


def cuts(text: str, n: int, context: int) -> list[Cut]:
  """`n` statements of one line each, cut between two words or symbols."""
  rng, found = random.Random(0), []
  lines = list(re.finditer(r'(?m)^.*$', text[context:]))
  for line in rng.sample(lines, len(lines)):
    places = [m.start() for m in re.finditer(r'\b', line[0])][2:-1]
    if places and parses(line[0]):
      place = rng.choice(places)
      end = context + line.start() + place
      found.append(
        Cut(text[end - context : end], line[0][:place], line[0][place:])
      )
    if len(found) == n:
      break
  return found


def by_counting(model: NGram, before: str) -> str:
  """The rest of the line, the most likely character each time."""
  rest = ''
  while len(rest) < LONGEST and not rest.endswith('\n'):
    rest += model.most_likely(before + rest)
  return rest.removesuffix('\n')


def by_model(trained: Trained, befores: Sequence[str]) -> list[str]:
  complete = Generator(
    trained.model.params, trained.run.model, trained.tokenizer
  )
  request = Request(LONGEST, temperature=0.0, stop=('\n',))
  return complete(befores, request)


def n_equal(a: str, b: str) -> int:
  """How many characters both begin with."""
  equal = (x == y for x, y in zip(a, b, strict=False))
  return sum(itertools.takewhile(bool, equal))


def shares(found: Sequence[str], wanted: Sequence[Cut]) -> dict[str, float]:
  """Of all characters those before the first mistake; of all lines the rest."""
  pairs = list(zip(found, wanted, strict=True))
  n_right = sum(n_equal(rest, cut.rest) for rest, cut in pairs)
  return {
    'characters': n_right / sum(len(cut.rest) for cut in wanted),
    'exact': sum(rest == cut.rest for rest, cut in pairs) / len(pairs),
    'parses': sum(parses(cut.begun + rest) for rest, cut in pairs) / len(pairs),
  }


def main() -> None:
  parser = argparse.ArgumentParser(description=__doc__)
  parser.add_argument('--workdir', type=Path, required=True)
  parser.add_argument('--lines', type=int, default=500)
  arguments = parser.parse_args()
  trained = load_trained(arguments.workdir)
  train, val = read_split(trained.run.data)
  wanted = cuts(val, arguments.lines, trained.run.model.context_length // 2)
  befores = [cut.before for cut in wanted]
  for order in (3, 6):
    counted = NGram(train, order)
    found = [by_counting(counted, before) for before in befores]
    print(json.dumps({'model': f'{order}-gram', **shares(found, wanted)}))
  found = by_model(trained, befores)
  print(json.dumps({'model': 'gpt', **shares(found, wanted)}))


if __name__ == '__main__':
  main()
