"""Fills the tables of the documents with what was measured.

  python benchmarks/tables.py

A table stands between `<!-- table: NAME -->` and `<!-- end -->`. Its figures
are those of one file of results/, which measure.py writes, and so of one state
of the code; the line above it says which.
"""

import json
import re
import statistics
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
RESULTS = Path(__file__).with_name('results')
EXAMPLES = ('code', 'queries', 'spelling')
PAGES = (
  'README.md',
  'docs/grammars.md',
  'docs/performance.md',
  'benchmarks/README.md',
  *(f'examples/{name}/README.md' for name in EXAMPLES),
)
_REGION = re.compile(r'(<!-- table: (\w+) -->\n)(?:.*\n)*?(<!-- end -->)')

# The share of the machine that others may take without a word.
BUSY = 0.05

Results = dict[str, Any]

WORK = {
  'train': 'train GPT-2 124M on 2 x 512 tokens',
  'train bfloat16': 'the same in bfloat16',
  'small': "train nanoGPT's model of characters",
  'small bfloat16': 'the same in bfloat16',
  'prefill': 'prefill a prompt of 512',
  'prefill bfloat16': 'the same in bfloat16',
  'prefill w8a8': 'the same with w8a8 weights',
  'decode 1': 'decode one sequence',
  'decode 1 bfloat16': 'the same with bfloat16 weights',
  'decode 1 int8': 'the same with int8 weights',
  'decode 8': 'decode eight sequences',
  'decode 8 int8': 'the same with int8 weights',
  'decode 8 w8a8': 'the same with w8a8 weights',
}
# As the peers have it: all biases, no dropout.
BENCH = 'minigpt bench --qkv_bias --drop_rate=0'
# What a reader of the page on performance may choose: work, choice, rows.
CHOICES = [
  (
    'train',
    '`--compute_dtype=bfloat16`, where the processor has AVX512-BF16 or AMX',
    ('train bfloat16', 'train'),
  ),
  (
    'train a small model',
    '`--preset=shakespeare-char-fast`, the same choice made',
    ('small bfloat16', 'small'),
  ),
  (
    'generate one text',
    '`--weights=int8`',
    ('decode 1 int8', 'decode 1 bfloat16', 'decode 1'),
  ),
  (
    'generate many at once',
    '`--weights=w8a8`',
    ('decode 8 w8a8', 'decode 8 int8', 'decode 8'),
  ),
  (
    'process long prompts',
    '`--weights=w8a8` or `--compute_dtype=bfloat16`',
    ('prefill w8a8', 'prefill bfloat16', 'prefill'),
  ),
]
HIGHLIGHTS = ('train', 'train bfloat16', 'decode 1', 'decode 1 int8')


def figures(results: Results, row: str, name: str) -> list[float]:
  """Returns a figure of each run of a row."""
  return [each[name] for each in results['runs'][row]['figures']]


def rate(results: Results, row: str) -> str:
  """Returns the median of tokens per second, with the span of the runs."""
  rates = figures(results, row, 'tokens_per_s')
  return span(rates, ',.0f')


def span(values: Sequence[float], form: str) -> str:
  """Returns the median and, in brackets, the lowest and highest."""
  middle = f'{statistics.median(values):{form}}'
  if len(values) == 1:
    return middle
  return f'{middle} ({min(values):{form}} to {max(values):{form}})'


def caption(results: Results) -> str:
  """Returns which state was measured, when, on what, and how."""
  machine, versions = results['machine'], results['versions']
  others = results['taken_by_others']
  text = (
    f'Commit `{results["commit"]}`, {results["date"]}, {machine["cores"]} '
    f'cores of {machine["processor"]}, TensorFlow {versions["tensorflow"]}: '
    f'`python benchmarks/measure.py {results["group"]}`.'
  )
  if others < BUSY:
    return text
  return f'{text} **Other processes took {others:.0%} of the machine.**'


def markdown(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
  """Returns a table of Markdown."""
  lines = [head, ['---'] * len(head), *rows]
  return '\n'.join(f'| {" | ".join(line)} |' for line in lines)


def bench() -> Iterator[str]:
  """Yields every workload of `minigpt bench`, for those who measure."""
  results = load('bench')
  yield caption(results)
  yield f'Each command begins with `{BENCH}`.'

  def row(name: str) -> list[str]:
    share, compiling, peak = (
      statistics.median(figures(results, name, figure))
      for figure in ('share_of_roofline', 'compile_s', 'peak_mib')
    )
    run = results['runs'][name]
    return [
      f'{WORK[name]}: `{run["command"].removeprefix(BENCH).strip()}`',
      f'`{run["figures"][0]["compile"]}`',
      rate(results, name),
      f'{share:.2f}',
      f'{compiling:.1f}',
      f'{peak:,.0f}',
    ]

  yield markdown(
    [
      'work',
      'mode',
      'tokens/s',
      'of the roofline',
      'compiling, s',
      'peak, MiB',
    ],
    [row(name) for name in results['runs']],
  )


def first_step() -> Iterator[str]:
  """Yields the seconds to a first step."""
  results = load('first_step')
  yield caption(results)
  yield markdown(
    ['from the start of a process to the loss of its first step', 'seconds'],
    [
      [name, span(figures(results, name, 'seconds'), '.1f')]
      for name in results['runs']
    ],
  )


def served() -> Iterator[str]:
  """Yields the rates of the server's path, and their share of XLA's."""
  results = load('served')
  yield caption(results)
  [rates] = figures(results, 'served', 'tokens_per_s')
  whole = rates['one XLA program']
  rows = [
    [
      name,
      *(f'{row[kind]:,.1f} ({row[kind] / whole[kind]:.2f})' for kind in row),
    ]
    for name, row in rates.items()
  ]
  yield markdown(['tokens/s, and of one XLA program', *whole], rows)


def tokenizer() -> Iterator[str]:
  """Yields how fast the graph of an export encodes."""
  results = load('tokenizer')
  yield caption(results)
  [rates] = figures(results, 'tokenizer', 'mb_per_s')
  [sizes] = figures(results, 'tokenizer', 'vocab_sizes')
  yield markdown(
    ['vocabulary', 'tokens in it', 'MB/s'],
    [[name, f'{sizes[name]:,}', span(rates[name], '.2f')] for name in rates],
  )


def choices() -> Iterator[str]:
  """Yields what to choose, for a user."""
  results = load('bench')

  def short(row: str) -> str:
    rates = figures(results, row, 'tokens_per_s')
    return f'{statistics.median(rates):,.0f}'

  def expect(best: str, *others: str) -> str:
    named = [f'{short(row)} in {kind(row)}' for row in others]
    return f'{short(best)} tokens/s; {", ".join(named)}'

  def kind(row: str) -> str:
    last = row.split()[-1]
    return last if not last.isdigit() and ' ' in row else 'float32'

  yield markdown(
    ['you want to', 'choose', 'expect'],
    [[work, choice, expect(*rows)] for work, choice, rows in CHOICES],
  )
  yield caption(results)


def highlights() -> Iterator[str]:
  """Yields a few figures, for those who look for the first time."""
  results = load('bench')
  rows = [[WORK[name], rate(results, name)] for name in HIGHLIGHTS]
  yield markdown(['', 'tokens/s'], rows)
  yield caption(results)


def streams() -> Iterator[str]:
  """Yields what a stream takes on the server's path."""
  results = load('streams')
  yield caption(results)
  [rows] = figures(results, 'streams', 'rows')
  yield markdown(
    ['', 'prompt alone, ms', 'first token, ms', 'ratio', 'bytes a token'],
    [
      [
        name,
        f'{1e3 * row["prompt"]:,.0f}',
        f'{1e3 * row["first"]:,.0f}',
        f'{row["ratio"]:.2f}',
        f'{row["n_bytes"]:,.0f}',
      ]
      for name, row in rows.items()
    ],
  )


def door() -> Iterator[str]:
  """Yields the rates of `minigpt serve`, and what abuse came to."""
  results = load('door')
  yield caption(results)
  [found] = results['runs']['door']['figures']
  marks = found['megabytes']
  statuses = (f'{what}: {code}' for what, code in found['statuses'].items())
  yield markdown(
    ['', ''],
    [
      ['tokens/s of `minigpt serve`', span(found['tokens_per_s'], ',.0f')],
      ['of the bare loop over chunks', span(found['bare'], ',.0f')],
      ['the share, of each round', span(found['share'], '.2f')],
      [f'failed of {found["streams"]:,} streams', f'{found["failed"]:,}'],
      ['status', ', '.join(statuses)],
      [
        'failed with 200 connections, killed clients and a slow reader',
        f'{found["failed_then"]:,} of 500',
      ],
      [
        f'memory before and after {found["more_requests"]:,} more, MB',
        f'{marks[0]:,.0f}, {marks[-1]:,.0f}',
      ],
    ],
  )


def grammars() -> Iterator[str]:
  """Yields the size of a grammar, and its cost for a token."""
  results = load('grammars')
  [size] = figures(results, 'grammars', 'table')
  [costs] = figures(results, 'grammars', 'milliseconds')
  yield markdown(
    ["a schema of four properties, GPT-2's 50,257 tokens", ''],
    [
      ['states', f'{size["states"]:,}'],
      ['kinds of tokens', f'{size["classes"]:,}'],
      ['table, MB', f'{size["megabytes"]:.2f}'],
      ['compiling it, s', f'{size["seconds"]:.1f}'],
      *(
        [f'a token of a batch of {n}, ms', f'{cost:.2f}']
        for n, cost in costs.items()
      ),
    ],
  )
  yield caption(results)


RUNS = {
  'mini': ('minigpt train --preset=mini --dataset=sample', ('mini',)),
  'char': (
    'minigpt train --preset=shakespeare-char --dataset=tiny_shakespeare',
    ('char',),
  ),
  'fast': (
    'minigpt train --preset=shakespeare-char-fast --dataset=tiny_shakespeare',
    ('fast 0', 'fast 1', 'fast 2', 'fast 3'),
  ),
}


def runs() -> Iterator[str]:
  """Yields what whole runs come to."""
  results = load('runs')

  def row(command: str, names: Sequence[str]) -> list[str]:
    loss, accuracy, seconds = (
      [x for name in names for x in figures(results, name, figure)]
      for figure in ('val_loss', 'val_accuracy', 'seconds')
    )
    return [
      f'`{command}`',
      span(loss, '.3f'),
      span(accuracy, '.3f'),
      span(seconds, '.0f'),
    ]

  yield markdown(
    ['command', 'validation loss', 'accuracy', 'seconds'],
    [row(*each) for each in RUNS.values()],
  )
  yield caption(results)


def own_text() -> Iterator[str]:
  """Yields what own text takes."""
  results = load('own_text')
  yield caption(results)
  [vocabulary] = figures(results, 'vocabulary', 'rows')
  [large] = figures(results, 'large', 'rows')
  [bits] = figures(results, 'bits', 'rows')
  yield markdown(
    ['work', 'seconds', 'memory at most, MB'],
    [
      [f'{text}: {name}', f'{row["seconds"]:.1f}', f'{row["megabytes"]:,.0f}']
      for text, rows in (('100 MB', vocabulary), ('2 GB', large))
      for name, row in rows.items()
    ],
  )
  yield markdown(
    ['tokens of Tiny Shakespeare', 'bits per byte', 'seconds of training'],
    [
      [name, f'{row["bits_per_byte"]:.3f}', f'{row["seconds"]:.1f}']
      for name, row in bits.items()
    ],
  )


def served_choice() -> Iterator[str]:
  """Yields what to choose for an unmodified server, for a user."""
  results = load('served')
  [rates] = figures(results, 'served', 'tokens_per_s')
  yield markdown(
    ['export', 'one text', 'eight at once', 'a long prompt'],
    [
      [_FLAGS.get(name, f'`--weights={name}`')]
      + [f'{row[kind]:,.0f}' for kind in ('batch 1', 'batch 8', 'prefill')]
      for name, row in rates.items()
      if name != 'one XLA program'
    ],
  )
  yield caption(results)


_FLAGS = {'compute-bfloat16': '`--compute_dtype=bfloat16`'}


def example(name: str, head: Sequence[str]) -> Iterator[str]:
  """Yields what the models of an example came to."""
  results = load('examples')
  [rows] = figures(results, name, 'rows')
  [run] = results['runs'][name]['figures']
  yield markdown(
    ['model', *head],
    [
      [model, *(f'{share:.3f}' for share in row.values())]
      for model, row in rows.items()
    ],
  )
  yield (
    f'The validation loss is {run["val_loss"]:.2f} at the end, and all of it '
    f'takes {run["seconds"] / 60:.1f} minutes.'
  )
  yield caption(results)


def example_code() -> Iterator[str]:
  """Yields the table of examples/code."""
  head = ['characters right before the first mistake', 'whole rest right']
  return example('code', [*head, 'line parses'])


def example_queries() -> Iterator[str]:
  """Yields the table of examples/queries."""
  return example('queries', ['valid', 'valid, and not in the training data'])


def example_spelling() -> Iterator[str]:
  """Yields the table of examples/spelling."""
  return example('spelling', ['exact match', 'character error rate'])


TABLES = {
  table.__name__: table
  for table in (
    *(bench, choices, highlights),
    *(first_step, served, served_choice, streams, door, tokenizer, grammars),
    *(runs, own_text),
    *(example_code, example_queries, example_spelling),
  )
}


def load(group: str) -> Results:
  """Returns what measure.py wrote of a group."""
  return json.loads((RESULTS / f'{group}.json').read_text(encoding='utf-8'))


def fill(text: str) -> str:
  """Returns a page with its tables as the results have them."""

  def region(match: re.Match[str]) -> str:
    begin, name, end = match.groups()
    try:
      table = '\n\n'.join(TABLES[name]())
    except FileNotFoundError as error:
      group = Path(error.filename).stem
      table = f'Not measured yet: `python benchmarks/measure.py {group}`.'
    return f'{begin}{table}\n{end}'

  return _REGION.sub(region, text)


def main() -> None:
  """Fills every page."""
  for name in PAGES:
    page = ROOT / name
    page.write_text(fill(page.read_text(encoding='utf-8')), encoding='utf-8')
    print(name)


if __name__ == '__main__':
  main()
