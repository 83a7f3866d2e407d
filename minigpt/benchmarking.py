"""Measures a training step, a prefill or a decoding loop, and the machine.

Operations and bytes are counted from the config: an XLA program that does more
than them loses by it, as it should.
"""

import resource
import statistics
import time
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from minigpt import costs, decoding, lowering, memory
from minigpt.compact import compact
from minigpt.config import GPTConfig, TrainConfig
from minigpt.decoding import Sampling
from minigpt.model import GPT, cached_gpt, unembed
from minigpt.params import cast, count, specs
from minigpt.training import TrainState, compiled_train_steps

_BYTES = {'float32': 4, 'bfloat16': 2, 'int8': 1}


class Subject(NamedTuple):
  """What is measured, and what one call of it amounts to."""

  call: Callable[[], object]  # returns once the result is there
  n_compiled: Callable[[], int]  # programs so far
  unit: str  # what a call consists of
  n_units: int
  n_tokens: int
  flops: float
  bytes: float  # moved if every operand were touched once
  # A call whose time is taken off, for the prompt that a decoding call reads.
  before: Callable[[], object] | None = None


class Timing(NamedTuple):
  """Seconds of one call."""

  first: float  # with tracing and compiling
  median: float
  lowest: float
  highest: float


class Roofline(NamedTuple):
  """What this machine reaches when it does nothing else."""

  flops: float  # operations a second, in products of the dtype
  bandwidth: float  # bytes read a second


class Result(NamedTuple):
  """One measurement, ready to print."""

  ms_per_unit: float
  unit: str
  lowest_ms: float
  highest_ms: float
  tokens_per_s: float
  compile_s: float
  n_compiled: int
  peak_mib: float
  gflop: float
  gbyte: float
  roofline_gflops: float
  roofline_gbytes_per_s: float
  share_of_roofline: float


def train(config: GPTConfig, recipe: TrainConfig) -> Subject:
  """As many optimizer steps as a call takes, on random tokens."""
  state = TrainState(GPT(config))
  steps = compiled_train_steps(state, config, recipe)
  k, context = recipe.steps_per_call, config.context_length
  shape = [k, recipe.grad_accum, recipe.batch_size, context + 1]
  windows = tf.constant(_tokens(config, shape))
  n_tokens = int(np.prod(shape[:3])) * context
  return Subject(
    call=lambda: steps(windows, np.int32(k)).loss.numpy(),
    n_compiled=steps.experimental_get_tracing_count,
    unit='step',
    n_units=k,
    n_tokens=n_tokens,
    flops=n_tokens * costs.flops_per_token(config),
    # AdamW reads weight, gradient and moments, and writes all but the gradient.
    bytes=k * 28 * count(specs(config)),
  )


def prefill(
  config: GPTConfig,
  weights: str,
  compute_dtype: str,
  compile: str,
  n_rows: int,
  n_prompt: int,
) -> Subject:
  """Reads prompts; scores the token after each."""
  p = _weights(config, weights, compute_dtype)
  start = tf.zeros([n_rows], tf.int32)

  def read(tokens):
    hidden, _ = cached_gpt(tokens, p, config, None, start)
    return unembed(hidden[:, -1], p, config)

  read = lowering.compiled(read, compile)
  tokens = tf.constant(_tokens(config, [n_rows, n_prompt]))
  n_tokens = n_rows * n_prompt
  return Subject(
    call=lambda: read(tokens).numpy(),
    n_compiled=read.experimental_get_tracing_count,
    unit='prefill',
    n_units=1,
    n_tokens=n_tokens,
    flops=costs.forward_flops(config, n_tokens, n_prompt, n_rows),
    bytes=weight_bytes(config, weights, compute_dtype),
  )


def decode(
  config: GPTConfig,
  weights: str,
  compute_dtype: str,
  compile: str,
  n_rows: int,
  n_prompt: int,
  n_new: int,
) -> Subject:
  """Greedy decoding of `n_new` tokens a row; the prompt is read before."""
  p = _weights(config, weights, compute_dtype)
  greedy = Sampling(
    tf.zeros([n_rows]),
    tf.zeros([n_rows], tf.int32),
    tf.ones([n_rows]),
    tf.zeros([n_rows], tf.int32),
  )

  def write(tokens, n):
    length = tf.fill([n_rows], n_prompt)
    state = decoding.start(tokens, length, p, config, n_prompt + n_new)
    return decoding.generate(state, n, n_new, greedy, p, config)[1].tokens

  write = lowering.compiled(write, compile)
  tokens = tf.constant(_tokens(config, [n_rows, n_prompt]))
  n_seen = n_prompt + n_new / 2
  return Subject(
    call=lambda: write(tokens, np.int32(n_new)).numpy(),
    n_compiled=write.experimental_get_tracing_count,
    unit='token',
    n_units=n_new,
    n_tokens=n_rows * n_new,
    flops=n_new * costs.forward_flops(config, n_rows, n_seen, n_rows),
    bytes=n_new
    * (
      weight_bytes(config, weights, compute_dtype)
      + 8 * n_rows * config.n_layers * n_seen * config.emb_dim
    ),
    before=lambda: write(tokens, np.int32(0)).numpy(),
  )


def weight_bytes(config: GPTConfig, weights: str, compute_dtype: str) -> int:
  """All weights, read once."""
  kept = compute_dtype if weights == 'float32' else weights
  return _BYTES[kept] * count(specs(config))


def _weights(config, weights, compute_dtype):
  p = GPT(config).params
  if weights != 'float32':
    return compact(p, weights)
  if compute_dtype == 'float32':
    return p
  return tf.nest.map_structure(tf.Variable, cast(p, compute_dtype))


def _tokens(config, shape):
  rng = np.random.default_rng(0)
  return rng.integers(0, config.vocab_size, shape, np.int32)


def measure(subject: Subject, repeats: int) -> Timing:
  """Times one call that compiles, one that warms up, and `repeats` more."""
  first = _seconds(subject.call)
  memory.give_back()
  before = subject.before or (lambda: None)
  for warm_up in (before, subject.call):
    warm_up()
  times = []
  for _ in range(repeats):
    prompt = _seconds(before)
    times.append(_seconds(subject.call) - prompt)
  return Timing(first, statistics.median(times), min(times), max(times))


def _seconds(call):
  start = time.perf_counter()
  call()
  return time.perf_counter() - start


def roofline(compute_dtype: str, repeats: int, n: int = 2048) -> Roofline:
  """The best product rate of `n` by `n` matrices, and the best reading rate.

  Both by TensorFlow's own kernels and by XLA: the faster counts.
  """
  x = tf.cast(tf.random.stateless_normal([n, n], [0, 0]), compute_dtype)
  big = tf.ones([2**26])  # 256 MiB: more than any cache holds
  found = {}
  for name, f, given in (
    ('product', lambda x: tf.matmul(x, x)[0, 0], x),
    ('read', tf.reduce_sum, big),
  ):
    times = []
    for mode in ('graph', 'xla'):
      run = lowering.compiled(f, mode)
      call = lambda run=run, given=given: run(given).numpy()  # noqa: E731
      call()
      times += [_seconds(call) for _ in range(repeats)]
    found[name] = min(times)
  return Roofline(2 * n**3 / found['product'], 4 * 2**26 / found['read'])


def result(subject: Subject, timing: Timing, limits: Roofline) -> Result:
  """A call at the roofline takes as long as its slower half."""
  best = max(subject.flops / limits.flops, subject.bytes / limits.bandwidth)
  ms = 1e3 / subject.n_units
  peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
  return Result(
    ms_per_unit=timing.median * ms,
    unit=subject.unit,
    lowest_ms=timing.lowest * ms,
    highest_ms=timing.highest * ms,
    tokens_per_s=subject.n_tokens / timing.median,
    compile_s=timing.first - timing.median,
    n_compiled=subject.n_compiled(),
    peak_mib=peak / 1024,
    gflop=subject.flops / 1e9,
    gbyte=subject.bytes / 1e9,
    roofline_gflops=limits.flops / 1e9,
    roofline_gbytes_per_s=limits.bandwidth / 1e9,
    share_of_roofline=best / timing.median,
  )
