"""Plain greedy decoding against speculation, on a trained model's own text.

  python benchmarks/speculation.py --workdir=runs/s --speculate=8

Continues places of the run's validation text, one at a time, both ways in
turns. Random weights would not do: what is gained depends on the text.
"""

import argparse
import statistics
import time
from pathlib import Path

import numpy as np
import tensorflow as tf

from minigpt.checkpoints import loading
from minigpt.checkpoints.loading import Trained
from minigpt.compiler import jit
from minigpt.config import Settings
from minigpt.generation import decode, prompt_lookup, sampling
from minigpt.kernels.quantize import quantize
from minigpt.runtime import app, startup
from minigpt.training.run_setup import prepare

_CALLS = 4  # Of which the first may compile.


def decoders(trained: Trained, n_new: int, n_drafted: int):
  """Plain and speculative: int [1, T] -> int32 [1, N], tally or ()."""
  p = quantize(trained.model.params, 'float32')  # As `minigpt generate` has it.
  config = trained.run.model
  greedy = sampling.greedy_sampling(1)

  def begin(prompt):
    length = tf.constant([prompt.shape[1]])
    return decode.start(prompt, length, p, config, config.context_length)

  @jit.compiled
  def plain(prompt):
    state = begin(prompt)
    sampled = decode.generate(state, n_new, n_new, greedy, p, config)[1]
    return sampled.tokens, ()

  @jit.compiled
  def speculative(prompt):
    _, sampled, tally = prompt_lookup.generate(
      begin(prompt), n_new, n_new, n_drafted, p, config
    )
    return sampled.tokens, tally

  return plain, speculative


def seconds(generate, prompt: np.ndarray):
  """The shortest time of some calls, prompt and all; the tokens, the tally."""
  times = []
  for _ in range(_CALLS):
    started = time.perf_counter()
    tokens, tally = generate(prompt)
    tokens = tokens.numpy()
    times.append(time.perf_counter() - started)
  return min(times), tokens, tally


def prompts(trained: Trained, n_places: int, length: int) -> np.ndarray:
  """int32 [n_places, 1, length], evenly spread over the validation text."""
  run = trained.run
  settings = Settings(run.model.__dict__, run.data, run.train)
  val = prepare(settings, trained.tokenizer).data.val
  starts = np.linspace(0, len(val) - length - 1, n_places).astype(np.int64)
  return val[starts[:, None, None] + np.arange(length)].astype(np.int32)


def main() -> int:
  startup.configure()
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument('--workdir', required=True)
  parser.add_argument('--speculate', type=int, default=8)
  parser.add_argument('--places', type=int, default=10)
  parser.add_argument('--prompt_length', type=int, default=16)
  parser.add_argument('--new_tokens', type=int, default=32)
  options = parser.parse_args()
  trained = loading.load_trained(Path(options.workdir))
  n_new = options.new_tokens
  both = decoders(trained, n_new, options.speculate)
  rates, tallies, n_same = [], [], 0
  for prompt in prompts(trained, options.places, options.prompt_length):
    found = [seconds(generate, prompt) for generate in both]
    rates.append([n_new / took for took, _, _ in found])
    tallies.append([float(np.sum(part)) for part in found[1][2]])
    n_same += np.array_equal(found[0][1], found[1][1])
  print(report(np.array(rates), np.array(tallies), n_same, n_new))
  return 0


def report(
  rates: np.ndarray, tallies: np.ndarray, n_same: int, n_new: int
) -> str:
  """Of tokens per second [n, 2] and tallies [n, 3]."""
  ratios = rates[:, 1] / rates[:, 0]
  n_steps, n_drafted, n_accepted = tallies.sum(0)
  return '\n'.join(
    [
      f'plain        {statistics.median(rates[:, 0]):8,.0f} tokens/s',
      f'speculative  {statistics.median(rates[:, 1]):8,.0f} tokens/s',
      f'ratio        {statistics.median(ratios):8.2f}  '
      f'(from {ratios.min():.2f} to {ratios.max():.2f})',
      f'{n_accepted / max(n_drafted, 1):.0%} of {n_drafted:,.0f} drafted '
      f'tokens accepted, {len(rates) * n_new / n_steps:.2f} tokens a step; '
      f'{n_same} of {len(rates)} texts the same',
    ]
  )


if __name__ == '__main__':
  raise SystemExit(app.exit_code(main))
