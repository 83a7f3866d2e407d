"""How much memory `minigpt prepare` takes for a corpus of any size.

  python benchmarks/prepare_memory.py --gigabytes=2 --flags=--tokenizer=char

Writes made-up text, prepares it, and watches the memory of all processes.
"""

import argparse
import tempfile
from pathlib import Path

import made_text
import programs


def main() -> None:
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument('--gigabytes', type=float, default=2.0)
  parser.add_argument('--flags', nargs='*', default=[], help='for prepare')
  options = parser.parse_args()
  with tempfile.TemporaryDirectory() as folder:
    text = Path(folder, 'text.txt')
    made_text.write(text, int(options.gigabytes * 1e9))
    files = f'--input={text}', f'--output={folder}/tokens'
    taken = programs.minigpt('prepare', *files, *options.flags)
    n_bytes = text.stat().st_size
  print(
    f'{n_bytes / 1e9:.2f} GB in {taken.seconds:,.0f} s '
    f'({n_bytes / taken.seconds / 1e6:.1f} MB/s), at most '
    f'{taken.megabytes:,.0f} MB'
  )


if __name__ == '__main__':
  main()
