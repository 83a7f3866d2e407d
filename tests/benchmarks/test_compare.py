"""The comparison with peers, at toy size."""

import importlib.util
import sys

import helpers
import pytest

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


def compared(python, *flags):
  """Returns the lines of a comparison with one peer, run by `python`."""
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
  _, ours, theirs = compared(python, '--modes=graph', '--weights=w8a8')
  assert ours.split()[:3] == ['minigpt', 'graph', 'w8a8']
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
  spec = importlib.util.spec_from_file_location(
    'peer_runs', BENCHMARKS / 'peer_runs.py'
  )
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
  """Tests the harness with a peer that counts its calls."""
  program = tmp_path / 'toy.py'
  program.write_text(
    'import harness, time\n'
    'said = []\n'
    'def decode(a):\n'
    '  def write(n):\n'
    '    said.append(n)\n'
    '    harness.time.perf_counter = lambda: sum(said)\n'
    '    return said\n'
    '  return harness.decode_work(a, write)\n'
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
