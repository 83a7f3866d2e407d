"""Holds `minigpt plan` against runs of 1, 2 and 4 workers on this machine.

  python benchmarks/scaling.py

Workers of one machine share what it has, so each of N is given an N-th of its
rates. The rate of computing is that of the run of one; the rate of
communicating is what is left of the run of two. What is then predicted for four
has seen nothing of them.
"""

import argparse
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from minigpt.checkpoints import workdir
from minigpt.profiling import scaling_model
from minigpt.training.metrics import read_metrics

ROOT = Path(__file__).parents[1]
WARM = 5  # Steps that are not counted.


def measure(path: Path, n: int, flags: list[str]) -> float:
  """Seconds of a step with `n` workers."""
  subprocess.run(
    [
      *(
        sys.executable,
        '-m',
        'minigpt',
        'launch',
        f'--workers={n}',
        '--',
      ),
      *('train', f'--workdir={path}', '--eval_batches=1', *flags),
    ],
    cwd=ROOT,
    check=True,
    stdout=subprocess.DEVNULL,
  )
  run = workdir.load_config(path)
  rows = run.train.batch_size * run.train.grad_accum
  n_tokens = rows * run.model.context_length
  steps = read_metrics(path / 'metrics.jsonl')[WARM:]
  return n_tokens / statistics.median(s['tokens_per_second'] for s in steps)


def main() -> None:
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument('--flags', nargs='*', default=[], help='for train.py')
  given = parser.parse_args().flags
  flags = [
    *('--preset=shakespeare-char', '--dataset=stdlib', '--emb_dim=256'),
    *('--context_length=128', '--batch_size=16', '--steps=25', *given),
  ]
  with tempfile.TemporaryDirectory() as folder:
    seconds = {n: measure(Path(folder, str(n)), n, flags) for n in (1, 2, 4)}
    run = workdir.load_config(Path(folder, '1'))
  total = scaling_model.step_cost(
    run.model, run.train, 1, scaling_model.Machine(1, 1)
  ).flops
  flops = total / seconds[1]
  sent = 2 * scaling_model.all_reduce_bytes(run.model, 2)
  bits = 8 * sent / (seconds[2] - seconds[1])
  print(
    f'this machine: {flops / 1e9:.1f} GFLOP/s in a step, '
    f'{bits / 1e9:.2f} Gbit/s between processes\n'
    f'{"workers":<8} {"measured":>10} {"planned":>10} {"efficiency":>11}'
  )
  for n, measured in seconds.items():
    each = scaling_model.Machine(flops / n / 1e9, bits / n / 1e9)
    step = scaling_model.step_cost(run.model, run.train, n, each)
    print(
      f'{n:<8} {measured:>8.3f} s {step.seconds:>8.3f} s '
      f'{step.efficiency:>11.0%}'
    )


if __name__ == '__main__':
  main()
