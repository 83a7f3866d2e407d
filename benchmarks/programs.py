"""Runs a command of minigpt to its end, and takes its time and its memory.

Memory is the proportional set size (PSS) of the whole process tree, polled:
pages that processes share count once.
"""

import json
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import peer_runs

from minigpt.profiling import machine
from minigpt.runtime.atomic_io import write_text

ROOT = Path(__file__).resolve().parents[1]
_INTERVAL = 0.2  # Seconds between two looks at the memory.


class Taken(NamedTuple):
  """What a command took."""

  seconds: float
  megabytes: float  # at most


def minigpt(command: str, *flags: str) -> Taken:
  """Runs `minigpt COMMAND`; exits where it fails."""
  return run([sys.executable, '-m', 'minigpt', command, *flags])


def run(command: list[str]) -> Taken:
  """Runs a command; exits where it fails."""
  started, highest = time.monotonic(), 0
  with subprocess.Popen(
    command, cwd=ROOT, env=peer_runs.environment(), stdout=subprocess.DEVNULL
  ) as made:
    while made.poll() is None:
      highest = max(highest, _total(made.pid))
      time.sleep(_INTERVAL)
  if made.returncode:
    raise SystemExit(f'{" ".join(command)}: exit code {made.returncode}')
  return Taken(time.monotonic() - started, highest / 1e6)


def report(path: str | None, figures: Mapping[str, Any]) -> None:
  """Writes figures for measure.py, with machine and versions."""
  if path:
    write_text(path, json.dumps({**figures, **machine.about()}) + '\n')


def _total(pid: int) -> int:
  try:
    return sum(map(_pss, _tree(pid)))
  except OSError:  # A process ended between two looks.
    return 0


def _tree(pid: int) -> list[int]:
  found = [pid]
  for task in Path(f'/proc/{pid}/task').glob('*/children'):
    for child in task.read_text().split():
      found += _tree(int(child))
  return found


def _pss(pid: int) -> int:
  """Returns the bytes of a process, shared pages by parts; 0 once it ended."""
  try:
    for line in Path(f'/proc/{pid}/smaps_rollup').read_text().splitlines():
      if line.startswith('Pss:'):
        return int(line.split()[1]) * 1024
  except OSError:
    pass
  return 0
