"""Compares what `minigpt evaluate` found with words left as they were typed.

python -m examples.spelling.compare --workdir=runs/spelling/model
"""

import argparse
import json
from pathlib import Path

from minigpt.analysis.text_metrics import character_error_rate
from minigpt.data.jsonl import read_pairs


def untouched(dataset: str) -> dict[str, float]:
  """Exact match and character error rate of the words as typed."""
  pairs = read_pairs(dataset)
  typed = [pair.prompt.rstrip() for pair in pairs]
  words = [pair.completion for pair in pairs]
  n_right = sum(t == w for t, w in zip(typed, words, strict=True))
  return {
    'exact_match': n_right / len(pairs),
    'character_error_rate': character_error_rate(typed, words),
  }


def main() -> None:
  parser = argparse.ArgumentParser(description=__doc__)
  parser.add_argument('--workdir', type=Path, required=True)
  lines = (parser.parse_args().workdir / 'evaluations.jsonl').read_text('utf-8')
  for found in map(json.loads, lines.splitlines()):
    pairs = Path(found['dataset']).stem
    before = untouched(found['dataset'])
    after = {name: found[name] for name in before}
    for model, shares in (('as typed', before), ('corrected', after)):
      print(json.dumps({'model': f'{model}, {pairs}', **shares}))


if __name__ == '__main__':
  main()
