"""Runs one of the examples whole, and keeps the figures that it prints.

  python benchmarks/example_run.py queries

The script makes its data, trains and measures, in a folder that is deleted.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import peer_runs
import programs
import tables
from preset_run import last_evaluation


def rows(printed: str) -> dict[str, Any]:
  """Returns the figures of each model: a line of JSON in what was printed."""
  found = [json.loads(line) for line in printed.splitlines() if line[:1] == '{']
  return {row.pop('model'): row for row in found}


def main() -> None:
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument('example', choices=tables.EXAMPLES)
  parser.add_argument('--json', help='file for the figures')
  args = parser.parse_args()
  script = programs.ROOT / 'examples' / args.example / 'run.sh'
  with tempfile.TemporaryDirectory() as folder:
    places = {'PYTHON': sys.executable, 'RUNS': folder}
    started = time.monotonic()
    done = subprocess.run(
      [script],
      check=True,
      env={**peer_runs.environment(), **places},
      stdout=subprocess.PIPE,
      text=True,
    )
    seconds = time.monotonic() - started
    found = {**last_evaluation(Path(folder, 'model')), 'seconds': seconds}
  print(done.stdout)
  programs.report(args.json, {**found, 'rows': rows(done.stdout)})


if __name__ == '__main__':
  main()
