"""What a grammar costs each token, for one row and for several.

  python benchmarks/grammar_cost.py --rows 1 4

Compiles the table of a JSON schema and GPT-2's vocabulary, and times choosing
the most likely token of random logits with the grammar and without, in turns,
each in one XLA program as a loop over tokens has it.
"""

import argparse
import statistics
import time
from typing import Any

import numpy as np
import programs
import tensorflow as tf

from minigpt import tokenizers
from minigpt.compiler import jit
from minigpt.generation import constraint, grammar, grammar_table
from minigpt.generation.grammar_table import GrammarTable

SCHEMA = {
  'type': 'object',
  'properties': {
    'name': {'type': 'string', 'maxLength': 30},
    'age': {'type': 'integer'},
    'born': {'type': 'string', 'format': 'date'},
    'married': {'type': 'boolean'},
  },
  'required': ['name', 'age'],
}
_LIMIT = 200  # New tokens of an answer.


def steps(table: GrammarTable, n_rows: int):
  """Returns two programs, f32 [B, V] -> int32 [B]: the plain, the hidden."""
  tables = constraint.tables(table)
  limit = tf.fill([n_rows], _LIMIT)
  state = constraint.start_states(table, [table.names[0]] * n_rows)

  def plain(logits, state):
    return tf.argmax(logits, -1, tf.int32), state

  def hidden(logits, state):
    held = constraint.Constraint(tables, limit)
    kept = constraint.mask(logits, held, state, tf.zeros_like(limit))
    token, _ = plain(kept, state)
    return token, constraint.follow(tables, state, token, limit - 1)

  return [jit.compiled(f, 'xla') for f in (plain, hidden)], tf.constant(state)


def milliseconds(table: GrammarTable, n_rows: int, repeats: int) -> float:
  """Returns what the grammar adds to a step, the median of calls in turns."""
  programs_, state = steps(table, n_rows)
  rng = np.random.default_rng(0)
  logits = tf.constant(
    rng.normal(size=[n_rows, len(table.token_class)]), tf.float32
  )
  times: list[list[float]] = [[], []]
  for _ in range(repeats + 3):
    for program, found in zip(programs_, times, strict=True):
      started = time.perf_counter()
      program(logits, state)[0].numpy()
      found.append(time.perf_counter() - started)
  without, with_ = (statistics.median(found[3:]) for found in times)
  return 1e3 * (with_ - without)


def describe(table: GrammarTable, seconds: float) -> dict[str, Any]:
  """Returns the size of a table, and the seconds that it took to make."""
  n_states, n_classes = table.next_state.shape
  return {
    'states': n_states,
    'classes': n_classes,
    'megabytes': table.next_state.nbytes / 1e6,
    'seconds': seconds,
  }


def main() -> None:
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument('--tokenizer', default='gpt2')
  parser.add_argument('--rows', type=int, nargs='+', default=[1, 4])
  parser.add_argument('--repeats', type=int, default=300)
  parser.add_argument('--json', help='file for the figures')
  args = parser.parse_args()
  tokenizer = tokenizers.build(args.tokenizer, '{}[]":, aeinotruflsbgmd0123')
  form = grammar.from_schema('person', SCHEMA)
  started = time.perf_counter()
  table = grammar_table.build([form], tokenizer)
  size = describe(table, time.perf_counter() - started)
  print(', '.join(f'{name} {value:,.2f}' for name, value in size.items()))
  costs = {str(n): milliseconds(table, n, args.repeats) for n in args.rows}
  for n, cost in costs.items():
    print(f'{n} rows: {cost:.2f} ms a token')
  programs.report(args.json, {'table': size, 'milliseconds': costs})


if __name__ == '__main__':
  main()
