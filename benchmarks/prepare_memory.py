"""How much memory `minigpt prepare` takes for a corpus of any size.

  python benchmarks/prepare_memory.py --gigabytes=2

Writes synthetic text, prepares it, and polls the proportional set size (PSS)
of the whole process tree: pages that processes share count once.
"""

import argparse
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).parents[1]
FILES = 4


def write_corpus(folder: Path, n_bytes: int) -> None:
  """Writes words chosen among a thousand made-up ones, as lines of ten."""
  letters = 'etaoinshrdlucmfwyp'
  words = [
    ''.join(random.choices(letters, k=random.randint(2, 9)))
    for _ in range(1000)
  ]
  for i in range(FILES):
    left = n_bytes // FILES
    with open(folder / f'{i}.txt', 'w', encoding='utf-8') as file:
      while left > 0:
        chosen = random.choices(words, k=50_000)
        lines = (
          ' '.join(chosen[j : j + 10]) for j in range(0, len(chosen), 10)
        )
        left -= file.write('.\n'.join(lines)[:left])


def tree(pid: int) -> list[int]:
  found = [pid]
  for task in Path(f'/proc/{pid}/task').glob('*/children'):
    for child in task.read_text().split():
      found += tree(int(child))
  return found


def pss(pid: int) -> int:
  """Returns the bytes of a process, shared pages by parts; 0 once it ended."""
  try:
    for line in Path(f'/proc/{pid}/smaps_rollup').read_text().splitlines():
      if line.startswith('Pss:'):
        return int(line.split()[1]) * 1024
  except OSError:
    pass
  return 0


def total(pid: int) -> int:
  try:
    return sum(map(pss, tree(pid)))
  except OSError:  # A process ended between two looks.
    return 0


def measure(command: list[str]) -> tuple[int, float]:
  """Returns the highest memory of the command, and its time."""
  started, highest = time.monotonic(), 0
  with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL) as made:
    while made.poll() is None:
      highest = max(highest, total(made.pid))
      time.sleep(0.5)
  if made.returncode:
    raise SystemExit('prepare failed')
  return highest, time.monotonic() - started


def main() -> None:
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument('--gigabytes', type=float, default=2.0)
  parser.add_argument('--flags', nargs='*', default=[], help='for prepare')
  options = parser.parse_args()
  random.seed(0)
  with tempfile.TemporaryDirectory() as folder:
    n_bytes = int(options.gigabytes * 1e9)
    write_corpus(Path(folder), n_bytes)
    highest, seconds = measure(
      [
        *(
          sys.executable,
          '-m',
          'minigpt',
          'prepare',
          f'--output={folder}/tokens',
        ),
        *(f'--input={folder}/*.txt', *options.flags),
      ]
    )
  print(
    f'{n_bytes / 1e9:.2f} GB in {seconds:,.0f} s '
    f'({n_bytes / seconds / 1e6:.1f} MB/s), at most {highest / 1e6:,.0f} MB'
  )


if __name__ == '__main__':
  main()
