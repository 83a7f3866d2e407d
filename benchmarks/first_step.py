"""How long the first training step takes from the start of a process.

  python benchmarks/first_step.py --compute_dtype=bfloat16

Starts a process that imports minigpt, makes GPT-2 with random weights, traces
and compiles the step of `minigpt train`, takes it and prints its loss.
"""

import argparse
import json
import subprocess
import sys
import time

from minigpt.runtime import startup
from minigpt.runtime.atomic_io import write_text


def take(preset: str, dtype: str) -> None:
  """Prints the loss of a first step on 2 x 512 tokens, and the machine."""
  startup.configure()  # Before the imports, as in a command.
  from minigpt.config import GPTConfig, preset_values, resolve
  from minigpt.profiling import machine, workloads

  explicit = {
    **{'batch_size': 2, 'context_length': 512, 'grad_accum': 1},
    **{'qkv_bias': True, 'drop_rate': 0.0, 'compute_dtype': dtype},
  }
  settings = resolve(preset_values(preset, explicit))
  work = workloads.train(GPTConfig(**settings.model), settings.train)
  print(float(work().loss[0]), flush=True)
  print(json.dumps(machine.about()))


def main() -> None:
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument('--preset', default='gpt2-124m')
  parser.add_argument('--compute_dtype', default='float32')
  parser.add_argument('--take', action='store_true', help='be that process')
  parser.add_argument('--json', help='file for the figures')
  args = parser.parse_args()
  if args.take:
    return take(args.preset, args.compute_dtype)
  command = [sys.executable, *sys.argv, '--take']
  started = time.perf_counter()
  with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
    loss = process.stdout.readline()
    seconds = time.perf_counter() - started
    about = process.stdout.read()
  if process.returncode:
    raise SystemExit(process.returncode)
  print(f'loss {float(loss):.3f} after {seconds:.1f} s')
  if args.json:
    figures = {'seconds': seconds, **json.loads(about)}
    write_text(args.json, json.dumps(figures) + '\n')


if __name__ == '__main__':
  main()
