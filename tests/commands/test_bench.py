"""The benchmarks at toy size: that they run, and what they count."""

import importlib.util
import json
import sys

import helpers
import pytest
import tensorflow as tf

from minigpt.kernels.quantize import W8A8, Quantized
from minigpt.profiling import timing as benchmarking
from minigpt.profiling import workloads

BENCHMARKS = helpers.ROOT / 'benchmarks'
TOY = (
  '--preset=mini',
  '--n_layers=1',
  '--emb_dim=16',
  '--n_heads=2',
  '--batch_size=2',
  '--context_length=16',
  '--prompt_length=4',
  '--new_tokens=3',
  '--repeats=1',
)


@pytest.mark.parametrize(
  'weights, compute_dtype, n_bytes',
  [
    ('float32', 'float32', 4),
    ('float32', 'bfloat16', 2),
    ('int8', 'float32', 1),
    ('w8a8', 'float32', 1),
  ],
)
def test_weights_are_read_in_the_form_they_are_kept(
  config, model, weights, compute_dtype, n_bytes
):
  from minigpt.model.params import count

  found = benchmarking.weight_bytes(config, weights, compute_dtype)
  assert found == n_bytes * count(model.params)


def test_the_time_of_the_prompt_is_taken_off(monkeypatch):
  now = [0.0]

  whole, prompt = iter([100, 50, 8, 11, 20]), iter([30, 40, 1, 2, 4])

  def f(n):
    now[0] += next(whole if n else prompt)
    return tf.zeros([])

  f.experimental_get_tracing_count = lambda: 1
  monkeypatch.setattr(benchmarking.time, 'perf_counter', lambda: now[0])
  call = workloads.Call(
    f,
    {'n': 2},
    variables={},
    results=(),
    unit='token',
    n_units=2,
    n_tokens=4,
    flops=6.0,
    before={'n': 0},
  )
  timing = benchmarking.measure(call, 3)
  # 130 until the first result, less what the two calls take when compiled.
  assert timing[:-1] == (130 - 9 - 2 * 2, 9, 7, 16)
  subject = benchmarking.Subject(call, bytes=4.0)
  found = benchmarking.result(subject, timing, benchmarking.Roofline(3.0, 1.0))
  assert found.ms_per_unit == 4500
  assert found.tokens_per_s == pytest.approx(4 / 9)
  assert found.compile_s == 117
  assert found.share_of_roofline == pytest.approx(4 / 9)  # bytes bind


@pytest.mark.parametrize('what', ['roofline', 'decode'])
def test_the_program_reports_figures(what, tmp_path):
  file = tmp_path / 'figures.json'
  done = helpers.run(
    '-m', 'minigpt', 'bench', f'--what={what}', f'--json={file}', *TOY
  )
  assert done.returncode == 0, done.stderr
  figures = json.loads(file.read_text())
  assert figures['what'] == what
  if what == 'roofline':
    assert figures['flops'] > 1e8
  else:
    assert figures['gflop'] > 0
    assert figures['n_compiled'] == 1
    assert f'n_compiled             {figures["n_compiled"]}' in done.stdout


def test_the_rate_of_products_is_that_of_their_weights(monkeypatch):
  made = []
  real = benchmarking.layers.matmul
  monkeypatch.setattr(
    benchmarking.layers, 'matmul', lambda x, w: made.append(w) or real(x, w)
  )
  for weights, kinds in (
    ('bfloat16', []),
    ('int8', [Quantized]),
    ('w8a8', [W8A8]),
  ):
    made.clear()
    limits = benchmarking.roofline('float32', 1, weights, n=64)
    assert [type(w) for w in made] == kinds
    assert min(limits) > 0


@pytest.mark.parametrize(
  'flags, said',
  [
    (['--what=trian'], "unknown what 'trian': did you mean 'train'?"),
    (['--weights=int8'], '--weights=int8 is for prefill and decode'),
    (['--compile=xls'], "unknown compile 'xls': did you mean 'xla'?"),
    (['--what=decode', '--new_tokens=99'], '103 tokens do not fit'),
    (['--repeats=0'], 'repeats=0: it must be 1 or more'),
    (['--device=cude'], "unknown device 'cude': did you mean 'cuda'?"),
    (['--device=cuda'], '--device=cuda: this machine is what is timed'),
  ],
  ids=lambda value: value if isinstance(value, str) else '',
)
def test_what_cannot_be_measured_is_one_line(flags, said):
  done = helpers.run('-m', 'minigpt', 'bench', *TOY, *flags)
  assert done.returncode == 2
  assert done.stderr.count('\n') == 1
  assert said in done.stderr


def compared(python, *flags):
  """The lines of a comparison with one peer, run by that interpreter."""
  done = helpers.run(
    'benchmarks/compare.py',
    '--what=prefill',
    '--rounds=1',
    '--peers=openvino',
    f'--peers_python={python}',
    *flags,
    *TOY,
  )
  assert done.returncode == 0, done.stderr
  return done.stdout.splitlines()


def test_a_missing_peer_is_named_and_the_rest_compared(tmp_path):
  _, ours, theirs = compared(tmp_path / 'python', '--modes=graph')
  name, mode, weights, rate, *_ = ours.split()
  assert (name, mode, weights) == ('minigpt', 'graph', 'float32')
  assert float(rate.replace(',', '')) > 0
  assert theirs.split()[:3] == ['openvino', 'float32', 'skipped:']
  assert 'No such file' in theirs


def test_peers_round_what_int8_is_multiplied_by_unasked(tmp_path):
  python = tmp_path / 'python'
  python.write_text('#!/bin/sh\necho "$@" >&2\nexit 1\n')
  python.chmod(0o755)
  _, ours, theirs = compared(python, '--modes=xla', '--weights=w8a8')
  assert ours.split()[:3] == ['minigpt', 'xla', 'w8a8']
  assert theirs.split()[:2] == ['openvino', 'w8a8']
  assert '--weights=int8' in theirs


@pytest.mark.parametrize(
  'flags, said',
  [
    (['--peers=jaxx'], "unknown peers 'jaxx': did you mean 'jax'?"),
    (['--drop_rate=0.1'], 'drop_rate=0.1: the peers have drop_rate=0.0'),
  ],
  ids=['peer', 'other work'],
)
def test_what_cannot_be_compared_is_one_line(flags, said):
  done = helpers.run('benchmarks/compare.py', *TOY, *flags)
  assert done.returncode == 2
  assert done.stderr.count('\n') == 1
  assert said in done.stderr


@pytest.fixture(scope='module')
def runs():
  spec = importlib.util.spec_from_file_location('runs', BENCHMARKS / 'runs.py')
  module = importlib.util.module_from_spec(spec)
  spec.loader.exec_module(module)
  return module


def test_a_ratio_is_the_median_of_those_of_each_round(runs):
  def rounds(*rates):
    more = {'compile_s': 0.0, 'peak_mib': 1.0}
    return [{'tokens_per_s': rate, **more} for rate in rates]

  found = {
    ('minigpt xla', 'float32'): rounds(10.0, 30.0, 90.0),
    ('a', 'float32'): rounds(10.0, 10.0, 10.0),
    ('b', 'float32'): rounds(5.0, 20.0, 20.0),
    ('c', 'int8'): rounds(40.0, 40.0, 40.0),
    ('d', 'int8'): 'no such thing',
  }
  lines = [line.split() for line in runs.table(found)]
  assert lines[1][-2:] == ['1.50x', '0.75x']  # of 1, 1.5, 4.5 and 0.25, ...
  assert lines[2][-2:] == ['0.50x', '0.25x']
  assert lines[5] == ['d', 'int8', 'skipped:', 'no', 'such', 'thing']


def test_a_peer_times_what_it_is_asked_for_or_says_why_not(runs, tmp_path):
  """The harness, by a peer that counts its calls."""
  program = tmp_path / 'toy.py'
  program.write_text(
    'import harness, time\n'
    'said = []\n'
    'def decode(a):\n'
    '  def write(n):\n'
    '    said.append(n)\n'
    '    harness.time.perf_counter = lambda: sum(said)\n'
    '    return said\n'
    '  return harness.writing(a, write)\n'
    "harness.run('Toy', decode=decode)\n"
  )
  (tmp_path / 'harness.py').symlink_to(BENCHMARKS / 'peers' / 'harness.py')
  flags = ['--new_tokens=4', '--batch_size=2', '--repeats=1']

  def asked(what):
    return runs.figures([sys.executable, str(program), *flags, what])

  figures = asked('--what=decode')
  # The prompt, a warm-up, the prompt again and 4 tokens after the first.
  assert figures['answer'] == [5, 1, 5, 1, 5]
  assert figures['tokens_per_s'] == 2 * 4 / (5 - 1)
  assert asked('--what=train') == 'Toy has no train'
