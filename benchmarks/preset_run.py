"""Trains a preset from the start of the command to its end, as a user does.

  python benchmarks/preset_run.py --preset=shakespeare-char-fast

Reports the seconds of all of it, start-up and compilation included, and the
last evaluation, over the whole validation part.
"""

import argparse
import json
import tempfile
from pathlib import Path

import programs


def last_evaluation(workdir: Path) -> dict[str, float]:
  """Returns the last figures of the validation part in the run's metrics."""
  lines = (workdir / 'metrics.jsonl').read_text('utf-8').splitlines()
  rows = [row for row in map(json.loads, lines) if 'val_loss' in row]
  return {name: rows[-1][name] for name in ('val_loss', 'val_accuracy')}


def main() -> None:
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument('--preset', default='mini')
  parser.add_argument('--dataset', default='tiny_shakespeare')
  parser.add_argument('--seed', type=int, default=0)
  parser.add_argument('--json', help='file for the figures')
  args = parser.parse_args()
  with tempfile.TemporaryDirectory() as folder:
    taken = programs.minigpt(
      'train',
      *(f'--preset={args.preset}', f'--dataset={args.dataset}'),
      *(f'--seed={args.seed}', f'--workdir={folder}/run'),
    )
    found = last_evaluation(Path(folder, 'run'))
  print(
    f'loss {found["val_loss"]:.3f}, accuracy {found["val_accuracy"]:.3f} '
    f'after {taken.seconds:.0f} s, {taken.megabytes:,.0f} MB'
  )
  programs.report(args.json, {**taken._asdict(), **found})


if __name__ == '__main__':
  main()
