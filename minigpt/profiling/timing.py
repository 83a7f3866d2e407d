"""Measures a training step, a prefill or a decoding loop, and the machine.

Operations and bytes are counted from the config: an XLA program that does more
than them loses by it, as it should.
"""

import resource
import statistics
import time
from typing import NamedTuple

import tensorflow as tf

from minigpt.compiler import jit
from minigpt.config import GPTConfig, TrainConfig
from minigpt.kernels.quantize import quantize
from minigpt.model import layers
from minigpt.model.params import Linear, count, specs
from minigpt.model.transformer import GPT
from minigpt.profiling import workloads
from minigpt.profiling.workloads import Call
from minigpt.runtime import malloc

_BYTES = {'float32': 4, 'bfloat16': 2, 'int8': 1, 'w8a8': 1}


class Subject(NamedTuple):
  """What is measured."""

  call: Call
  bytes: float  # moved by a call if every operand were touched once


class Timing(NamedTuple):
  """Seconds of one call, and the memory that all took."""

  compile: float  # with tracing
  median: float
  lowest: float
  highest: float
  peak_kib: int  # of the process so far


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
  call = workloads.train(config, recipe)
  # It reads weight, gradient and moments, and writes all but the gradient.
  return Subject(call, call.n_units * 28 * count(specs(config)))


def prefill(
  config: GPTConfig,
  weights: str,
  compute_dtype: str,
  compile: str,
  n_rows: int,
  n_prompt: int,
) -> Subject:
  """Reads prompts; scores the token after each."""
  p = quantize(GPT(config).params, weights, compute_dtype)
  call = workloads.score(p, config, n_rows, n_prompt, compile)
  return Subject(call, weight_bytes(config, weights, compute_dtype))


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
  p = quantize(GPT(config).params, weights, compute_dtype)
  call = workloads.greedy(p, config, n_rows, n_prompt, n_new, compile)
  n_seen = n_prompt + n_new / 2
  cache = 8 * n_rows * config.n_layers * n_seen * config.emb_dim
  weight = weight_bytes(config, weights, compute_dtype)
  return Subject(call, n_new * (weight + cache))


def weight_bytes(config: GPTConfig, weights: str, compute_dtype: str) -> int:
  """All weights, read once."""
  kept = compute_dtype if weights == 'float32' else weights
  return _BYTES[kept] * count(specs(config))


def measure(call: Call, repeats: int) -> Timing:
  """Times one call that compiles, one that warms up, and `repeats` more.

  The time of `call.before` is taken off. It comes first, too: what compiles is
  a call that does little, as in a run of training, and the compiler's memory
  is free again before the work takes its own.
  """

  def run(**other):  # Returns once the result is there.
    tf.nest.map_structure(lambda x: x.numpy(), call(**other))

  def before():
    if call.before:
      run(**call.before)

  first = _seconds(before)
  malloc.give_back()
  first += _seconds(run)  # `hybrid` mode compiles what runs.
  for warm_up in (before, run):
    warm_up()
  times, prompts = [], []
  for _ in range(repeats):
    prompts.append(_seconds(before))
    times.append(_seconds(run) - prompts[-1])
  median = statistics.median(times)
  return Timing(
    first - median - 2 * statistics.median(prompts),
    median,
    min(times),
    max(times),
    resource.getrusage(resource.RUSAGE_SELF).ru_maxrss,
  )


def _seconds(call):
  start = time.perf_counter()
  call()
  return time.perf_counter() - start


def roofline(
  compute_dtype: str, repeats: int, weights: str = 'float32', n: int = 2048
) -> Roofline:
  """The best product rate of `n` by `n` matrices, and the best reading rate.

  Both by TensorFlow's own kernels and by XLA: the faster counts. Products of
  int8 weights are made as `ops.matmul` makes them in XLA.
  """
  x = tf.cast(tf.random.stateless_normal([n, n], [0, 0]), compute_dtype)
  big = tf.ones([2**26])  # 256 MiB: more than any cache holds
  multiply, modes = lambda x: tf.matmul(x, x)[0, 0], ('graph', 'xla')
  if _BYTES[weights] == 1:
    w = quantize(Linear(tf.Variable(x)), weights).w
    multiply, modes = lambda x: layers.matmul(x, w)[0, 0], ('xla',)
  found = {}
  for name, f, given in ('product', multiply, x), ('read', tf.reduce_sum, big):
    times = []
    for mode in modes:
      run = jit.compiled(f, mode)
      call = lambda run=run, given=given: run(given).numpy()  # noqa: E731
      call()
      times += [_seconds(call) for _ in range(repeats)]
    found[name] = min(times)
  return Roofline(2 * n**3 / found['product'], 4 * 2**26 / found['read'])


def result(subject: Subject, timing: Timing, limits: Roofline) -> Result:
  """A call at the roofline takes as long as its slower half."""
  call = subject.call
  best = max(call.flops / limits.flops, subject.bytes / limits.bandwidth)
  ms = 1e3 / call.n_units
  return Result(
    ms_per_unit=timing.median * ms,
    unit=call.unit,
    lowest_ms=timing.lowest * ms,
    highest_ms=timing.highest * ms,
    tokens_per_s=call.n_tokens / timing.median,
    compile_s=timing.compile,
    n_compiled=call.f.experimental_get_tracing_count(),
    peak_mib=timing.peak_kib / 1024,
    gflop=call.flops / 1e9,
    gbyte=subject.bytes / 1e9,
    roofline_gflops=limits.flops / 1e9,
    roofline_gbytes_per_s=limits.bandwidth / 1e9,
    share_of_roofline=best / timing.median,
  )
