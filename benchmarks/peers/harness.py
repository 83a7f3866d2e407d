"""What the peers share: the work that is asked for, and how it is timed.

A peer is a program of its own, started with the Python of the peers'
environment, which knows nothing of minigpt. It hands `run` a function for each
kind of work that it can do.
"""

import argparse
import contextlib
import json
import math
import os
import pathlib
import resource
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np

N_THREADS = len(os.sched_getaffinity(0))
_SIZES = (
  'layers',
  'heads',
  'width',
  'vocab',
  'context_length',
  'batch_size',
  'prompt_length',
  'new_tokens',
  'repeats',
)


class UnableError(Exception):
  """What is asked for is beyond a peer; the message says why."""


class Work(NamedTuple):
  """What is timed, and what one call of it amounts to."""

  call: Callable[[], Any]  # returns once the result is there, as lists
  n_units: int
  n_tokens: int
  # A call whose time is taken off: of the prompt, where decoding is timed.
  before: Callable[[], Any] = lambda: None


def run(name: str, **works: Callable[[argparse.Namespace], Work]) -> None:
  """Times the work that the command line asks for, and writes the figures."""
  a = arguments()
  try:
    if a.what not in works:
      raise UnableError(f'{name} has no {a.what}')
    figures = measure(works[a.what](a), a.repeats)
  except UnableError as error:
    sys.exit(str(error))
  pathlib.Path(a.json).write_text(json.dumps(figures))


def arguments() -> argparse.Namespace:
  parser = argparse.ArgumentParser()
  parser.add_argument('--what', choices=['train', 'prefill', 'decode'])
  for name in _SIZES:
    parser.add_argument(f'--{name}', type=int)
  parser.add_argument('--compute_dtype', choices=['float32', 'bfloat16'])
  parser.add_argument('--weights', choices=['float32', 'bfloat16', 'int8'])
  parser.add_argument('--compile', action='store_true')
  parser.add_argument('--device', default='cpu', help='cpu or cuda')
  parser.add_argument('--json', help='file for the figures')
  return parser.parse_args()


def measure(work: Work, repeats: int) -> dict[str, Any]:
  """Times one call that compiles, one that warms up, and `repeats` more."""
  first, answer = seconds(work.call)
  work.before(), work.call()
  times = []
  for _ in range(repeats):
    prompt, _ = seconds(work.before)
    times.append(seconds(work.call)[0] - prompt)
  median = statistics.median(times)
  return {
    'ms_per_unit': 1e3 * median / work.n_units,
    'tokens_per_s': work.n_tokens / median,
    'compile_s': first - median,
    'peak_mib': resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    'answer': np.ravel(answer)[:8].tolist(),
  }


def seconds(call: Callable[[], Any]) -> tuple[float, Any]:
  start = time.perf_counter()
  answer = call()
  return time.perf_counter() - start, answer


def train_work(a: argparse.Namespace, step: Callable[[], Any]) -> Work:
  """`step` takes one step on `windows(a)` and returns the loss."""
  if a.weights != 'float32':
    raise UnableError(f'no training with {a.weights} weights')
  return Work(step, 1, a.batch_size * a.context_length)


def prefill_work(a: argparse.Namespace, prefill: Callable[[], Any]) -> Work:
  """`prefill` scores the token after each of `prompts(a)`."""
  return Work(prefill, 1, a.batch_size * a.prompt_length)


def decode_work(a: argparse.Namespace, decode: Callable[[int], Any]) -> Work:
  """`decode(n)` continues `prompts(a)` by the n most likely tokens a row.

  The first of them comes with the prompt: what is timed is `new_tokens` more.
  """
  n = a.new_tokens
  return Work(
    lambda: decode(n + 1), n, a.batch_size * n, before=lambda: decode(1)
  )


def windows(a: argparse.Namespace) -> np.ndarray:
  """Training text, [B, T + 1]: T tokens and, one on, their targets."""
  return _tokens(a, a.context_length + 1)


def prompts(a: argparse.Namespace) -> np.ndarray:
  return _tokens(a, a.prompt_length)


def _tokens(a, n):
  rng = np.random.default_rng(0)
  return rng.integers(0, a.vocab, (a.batch_size, n), np.int32)


def weights(a: argparse.Namespace) -> dict[str, np.ndarray]:
  """A GPT-2 with tied embeddings, by the names that Transformers uses.

  Matrices are [in, out], sampled as GPT-2's initial ones; biases are 0.
  """
  rng = np.random.default_rng(0)
  d = a.width

  def matrix(name, n, m, std=0.02):
    return {f'{name}.weight': std * rng.standard_normal((n, m), np.float32)}

  def linear(name, n, m, std=0.02):
    zeros = np.zeros(m, np.float32)
    return matrix(name, n, m, std) | {f'{name}.bias': zeros}

  def norm(name):
    one, zero = np.ones(d, np.float32), np.zeros(d, np.float32)
    return {f'{name}.weight': one, f'{name}.bias': zero}

  residual = 0.02 / math.sqrt(2 * a.layers)
  found = matrix('wte', a.vocab, d) | matrix('wpe', a.context_length, d)
  for i in range(a.layers):
    h = f'h.{i}'
    found |= norm(f'{h}.ln_1') | linear(f'{h}.attn.c_attn', d, 3 * d)
    found |= linear(f'{h}.attn.c_proj', d, d, residual) | norm(f'{h}.ln_2')
    found |= linear(f'{h}.mlp.c_fc', d, 4 * d)
    found |= linear(f'{h}.mlp.c_proj', 4 * d, d, residual)
  return found | norm('ln_f')


@contextlib.contextmanager
def quiet() -> Iterator[None]:
  """Lets native code say nothing."""
  kept, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
  os.dup2(nowhere, 2)
  try:
    yield
  finally:
    os.dup2(kept, 2)
    os.close(kept)
    os.close(nowhere)
