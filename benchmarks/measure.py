"""Measures what the tables of the documents report, and fills these tables.

  python benchmarks/measure.py            # all: half an hour on 2 cores
  python benchmarks/measure.py served     # one group alone

A group becomes one file of results/, with the commit, the machine and the date:
so a table shows one state of the code. Each run is a process of its own, and
the runs of a group take turns. What other processes took of the machine
meanwhile is recorded, too; let nothing else run. Texts are made or at hand:
nothing is fetched, and nothing is left behind but results/.
"""

import argparse
import datetime
import json
import os
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import peer_runs
import tables

ROOT = Path(__file__).resolve().parents[1]

_TRAIN = f'{tables.BENCH} --what=train --repeats=3'
_GPT2 = f'{_TRAIN} --batch_size=2 --context_length=512 --grad_accum=1'
_SMALL = f'{_TRAIN}0 --preset=shakespeare-char --vocab_size=65'
_PREFILL = f'{tables.BENCH} --what=prefill --batch_size=1 --prompt_length=512'
_DECODE_1 = f'{tables.BENCH} --what=decode --batch_size=1'
_DECODE_8 = f'{tables.BENCH} --what=decode --batch_size=8'
_FIRST = 'benchmarks/first_step.py'
_RUN = 'benchmarks/preset_run.py --preset'
_FAST = f'{_RUN}=shakespeare-char-fast'
_OWN = 'benchmarks/own_text.py'

# The variables that name the folders of what is not made here.
DATA = {
  'TFDS_DATA_DIR': 'Tiny Shakespeare, of tensorflow_datasets',
  'TIKTOKEN_CACHE_DIR': "GPT-2's vocabulary, of tiktoken",
}


class Group(NamedTuple):
  """Commands that take turns; each of them knows --json."""

  rounds: int
  commands: Mapping[str, str]
  needs: tuple[str, ...] = ()  # of DATA


GROUPS = {
  'bench': Group(
    2,
    {
      'train': _GPT2,
      'train bfloat16': f'{_GPT2} --compute_dtype=bfloat16',
      'small': _SMALL,
      'small bfloat16': f'{_SMALL} --compute_dtype=bfloat16',
      'prefill': _PREFILL,
      'prefill bfloat16': f'{_PREFILL} --compute_dtype=bfloat16',
      'prefill w8a8': f'{_PREFILL} --weights=w8a8',
      'decode 1': _DECODE_1,
      'decode 1 bfloat16': f'{_DECODE_1} --weights=bfloat16',
      'decode 1 int8': f'{_DECODE_1} --weights=int8',
      'decode 8': _DECODE_8,
      'decode 8 int8': f'{_DECODE_8} --weights=int8',
      'decode 8 w8a8': f'{_DECODE_8} --weights=w8a8',
    },
  ),
  'first_step': Group(
    2, {'float32': _FIRST, 'bfloat16': f'{_FIRST} --compute_dtype=bfloat16'}
  ),
  'served': Group(
    1,
    {
      'served': 'benchmarks/served.py --xla '
      '--formats float32 compute-bfloat16 int8'
    },
  ),
  'streams': Group(1, {'streams': 'benchmarks/streamed.py'}),
  'door': Group(1, {'door': 'benchmarks/http_server.py'}),
  'tokenizer': Group(
    1,
    {'tokenizer': 'benchmarks/tokenizer_rate.py'},
    needs=('TIKTOKEN_CACHE_DIR',),
  ),
  'grammars': Group(
    1,
    {'grammars': 'benchmarks/grammar_cost.py'},
    needs=('TIKTOKEN_CACHE_DIR',),
  ),
  'runs': Group(
    1,
    {
      'mini': f'{_RUN}=mini --dataset=sample',
      'char': f'{_RUN}=shakespeare-char',
      **{f'fast {seed}': f'{_FAST} --seed={seed}' for seed in range(4)},
    },
    needs=('TFDS_DATA_DIR',),
  ),
  'own_text': Group(
    1,
    {
      'vocabulary': f'{_OWN} vocabulary --megabytes=100',
      'large': f'{_OWN} large --megabytes=2000',
      'bits': f'{_OWN} bits',
    },
    needs=('TFDS_DATA_DIR',),
  ),
  'examples': Group(
    1,
    {name: f'benchmarks/example_run.py {name}' for name in tables.EXAMPLES},
  ),
}


def main() -> None:
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument('groups', nargs='*', metavar='GROUP', help=f'{[*GROUPS]}')
  parser.add_argument('--rounds', type=int, help='of each; default: its own')
  args = parser.parse_args()
  names = args.groups or list(GROUPS)
  if unknown := [name for name in names if name not in GROUPS]:
    parser.error(f'no group {unknown[0]!r}; there are {", ".join(GROUPS)}')
  require_data(names)
  commit = committed()
  for name in names:
    started = time.monotonic()
    results = {
      'commit': commit,
      'date': datetime.date.today().isoformat(),
      'group': name,
      **measure(GROUPS[name].commands, args.rounds or GROUPS[name].rounds),
    }
    tables.RESULTS.mkdir(exist_ok=True)
    path = tables.RESULTS / f'{name}.json'
    path.write_text(json.dumps(results, indent=1) + '\n', encoding='utf-8')
    print(f'{name}: {(time.monotonic() - started) / 60:.1f} minutes')
  tables.main()


def require_data(names: Sequence[str]) -> None:
  """Exits where a group lacks data, before the first of them begins."""
  for name in names:
    for variable in GROUPS[name].needs:
      if not os.path.isdir(os.environ.get(variable, '')):
        sys.exit(
          f'{name} needs {DATA[variable]}: set {variable} to its folder, or '
          'measure other groups'
        )


def committed() -> str:
  """Returns the commit that last changed what is measured.

  Exits where something has changed since.
  """
  paths = ('minigpt', 'benchmarks/*.py', 'examples/*.py', 'examples/*.sh')
  if changed := git('status', '--porcelain', '--', *paths):
    sys.exit(f'commit what is measured first; changed:\n{changed}')
  return git('log', '-1', '--format=%h', '--', *paths)


def git(*command: str) -> str:
  done = subprocess.run(
    ['git', *command], cwd=ROOT, check=True, capture_output=True, text=True
  )
  return done.stdout.rstrip()


def measure(commands: Mapping[str, str], rounds: int) -> dict[str, Any]:
  """Returns the figures of each command, and what they were measured on."""
  runs: dict[str, list[dict[str, Any]]] = {key: [] for key in commands}
  before = usage()
  for round_ in range(rounds):
    for key in list(runs)[:: -1 if round_ % 2 else 1]:
      figures = run(commands[key])
      about = {name: figures.pop(name) for name in ('machine', 'versions')}
      runs[key].append(figures)
      print(f'{round_ + 1}: {key}', flush=True)
  return {
    **about,
    'taken_by_others': usage().share_of_others(before),
    'runs': {
      key: {'command': commands[key], 'figures': figures}
      for key, figures in runs.items()
    },
  }


def run(command: str) -> dict[str, Any]:
  """Returns what a command wrote with --json; exits where it could not."""
  program, *flags = command.split()
  as_module = ['-m', program] if program == 'minigpt' else [str(ROOT / program)]
  figures = peer_runs.figures([sys.executable, *as_module, *flags])
  if isinstance(figures, str):
    sys.exit(f'{command}: {figures}')
  # Of a benchmark, what says how to repeat it stands in its command.
  return {
    name: value
    for name, value in figures.items()
    if name not in ('model', 'shapes', 'repeats', 'note')
  }


class Usage(NamedTuple):
  """Seconds of all cores so far."""

  clock: float
  busy: float  # of this machine; stolen ones of a virtual one count
  own: float  # of this process and those that it started

  def share_of_others(self, before: 'Usage') -> float:
    """Returns what others took of the cores since `before`, 0 to 1."""
    clock, busy, own = (a - b for a, b in zip(self, before, strict=True))
    return round(max(0.0, busy - own) / (clock * (os.cpu_count() or 1)), 3)


def usage() -> Usage:
  """Returns what Linux has counted (proc_stat(5))."""
  user, nice, system, _, _, irq, softirq, steal, *_ = (
    int(n) / os.sysconf('SC_CLK_TCK')
    for n in Path('/proc/stat').read_text().split('\n')[0].split()[1:]
  )
  return Usage(
    time.monotonic(),
    user + nice + system + irq + softirq + steal,
    sum(os.times()[:4]),
  )


if __name__ == '__main__':
  main()
