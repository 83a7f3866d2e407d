"""How long saving holds up training.

  python benchmarks/save_stall.py --preset=gpt2-124m --every=6 --steps=24

Trains on random tokens and times every step from the end of the one before:
the step right after a save has taken the snapshot and writes into fresh
memory, those after it share the machine with the writing thread.
"""

import argparse
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np

from minigpt import tokenizers
from minigpt.checkpoints import workdir
from minigpt.checkpoints.workdir import RunConfig
from minigpt.config import preset_values, resolve
from minigpt.data.training_data import TrainingData
from minigpt.data.windows import fingerprint, make_windows
from minigpt.runtime import app, startup
from minigpt.training.run_setup import RunSetup
from minigpt.training.trainer import Trainer


def setup(preset: str, **overrides) -> RunSetup:
  """A run on random tokens, which need no tokenizer."""
  settings = resolve(preset_values(preset, overrides))
  model = workdir.GPTConfig(**settings.model)
  numbers = np.random.default_rng(0).integers(0, model.vocab_size, 100_000)
  tokens = numbers.astype(np.uint16)
  windows = make_windows(tokens, model.context_length, 0, model.vocab_size)
  tokenizer = tokenizers.build('char', 'no text')
  val = tokens[: model.context_length + 1]
  return RunSetup(
    RunConfig(model, settings.data, settings.train),
    TrainingData(tokenizer, windows, val, fingerprint(tokens), 'no'),
  )


def step_times(path: Path, run: RunSetup) -> dict[int, float]:
  """Seconds from the end of the step before to the end of each step."""
  ends = {}

  def observe(trainer, records):
    ends[trainer.step] = time.monotonic()

  Trainer(path, run.config, run.data).train(observe)
  return {n: t - ends[n - 1] for n, t in ends.items() if n - 1 in ends}


def main() -> int:
  startup.configure()
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument('--preset', default='gpt2-124m')
  parser.add_argument('--steps', type=int, default=24)
  parser.add_argument('--every', type=int, default=6)
  parser.add_argument('--batch_size', type=int, default=1)
  parser.add_argument('--context_length', type=int, default=128)
  options = parser.parse_args()
  run = setup(
    options.preset,
    batch_size=options.batch_size,
    context_length=options.context_length,
    grad_accum=1,
    steps=options.steps,
    eval_every=options.steps,
    eval_batches=1,
    checkpoint_every=options.every,
  )
  with tempfile.TemporaryDirectory() as folder:
    workdir.create_folders(folder)
    times = step_times(Path(folder), run)
  for n, seconds in times.items():
    print(f'step {n}: {seconds:.2f} s', flush=True)
  after = [t for n, t in times.items() if n % options.every == 1]
  usual = statistics.median(
    t for n, t in times.items() if n % options.every == 0 and n < options.steps
  )
  print(
    f'a step: {usual:.2f} s; the step after a save: '
    f'{statistics.median(after):.2f} s, at most {max(after):.2f} s'
  )
  return 0


if __name__ == '__main__':
  raise SystemExit(app.exit_code(main))
