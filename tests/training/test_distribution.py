"""Several workers make the same run as one."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import helpers
import numpy as np
import pytest

from minigpt.commands import launch
from minigpt.config import TrainConfig
from minigpt.errors import InputError, UsageError
from minigpt.training import cluster as cluster_lib
from minigpt.training import distribution
from minigpt.training.metrics import read_metrics
from minigpt.training.run_setup import open_run

ROOT = Path(__file__).parents[2]
FLAGS = dict(
  dataset='sample',
  context_length=8,
  emb_dim=8,
  n_heads=2,
  n_layers=1,
  batch_size=4,
  grad_accum=2,
  steps=50,
  steps_per_call=1,
  eval_every=25,
  eval_batches=3,
  checkpoint_every=10,
  # Without XLA: six processes would compile for longer than they train.
  compile='graph',
)


def train(path: Path) -> list[str]:
  flags = [f'--{name}={value}' for name, value in FLAGS.items()]
  return ['train.py', f'--workdir={path}', *flags]


def launched(path: Path, n: int) -> subprocess.Popen:
  program, *flags = train(path)
  return subprocess.Popen(
    [
      *(sys.executable, '-m', 'minigpt', 'launch', f'--workers={n}', '--'),
      *(program.removesuffix('.py'), *flags),
    ],
    cwd=ROOT,
    stdout=subprocess.PIPE,
    stderr=subprocess.PIPE,
    text=True,
  )


def joined(path: Path, n: int) -> str:
  """Trains with workers started without a launcher; returns one's output."""
  addresses = [f'127.0.0.1:{port}' for port in launch.free_ports(n)]
  said = [path.with_name(f'worker-{i}') for i in range(n)]
  started = []
  for i in range(n):
    code = f"""
import os, runpy, sys
os.environ['TF_CONFIG'] = {cluster(i, worker=addresses)!r}
sys.argv = {train(path)}
runpy.run_path('train.py', run_name='__main__')
"""
    started.append(helpers.start('-c', code, files=(said[i], said[i])))
  for worker in started:
    worker.join(200)
  assert [w.exitcode for w in started] == [0] * n, said[0].read_text()
  assert said[1].read_text().splitlines()[1:] == []  # Only the chief prints.
  return said[0].read_text()


def lines(path: Path) -> int:
  metrics = path / 'metrics.jsonl'
  return metrics.read_bytes().count(b'\n') if metrics.exists() else 0


def a_worker_but_not_the_chief(launcher: subprocess.Popen) -> int:
  children = Path(f'/proc/{launcher.pid}/task/{launcher.pid}/children')
  for pid in children.read_text().split():
    if b'"index": 1' in Path(f'/proc/{pid}/environ').read_bytes():
      return int(pid)
  raise AssertionError('no worker 1')


@pytest.fixture(scope='module')
def alone(tmp_path_factory):
  """The losses of one worker."""
  path = tmp_path_factory.mktemp('runs') / 'alone'
  with open_run(path, FLAGS) as run:
    run.train()
  return read_metrics(path / 'metrics.jsonl')


@pytest.fixture(scope='module')
def many(tmp_path_factory):
  """A run of two workers, one stopped, then killed; four continue it."""
  path = tmp_path_factory.mktemp('runs') / 'many'
  with launched(path, 2) as first:
    deadline = time.monotonic() + 200
    while lines(path) < 12:
      assert time.monotonic() < deadline and first.poll() is None
      time.sleep(0.05)
    pid = a_worker_but_not_the_chief(first)
    os.kill(pid, signal.SIGSTOP)
    time.sleep(1)
    seen = lines(path)
    time.sleep(2)
    halted = lines(path) == seen
    os.kill(pid, signal.SIGCONT)
    while lines(path) < 25:
      assert time.monotonic() < deadline and first.poll() is None
      time.sleep(0.02)
    os.kill(pid, signal.SIGKILL)
    killed = time.monotonic()
    _, said = first.communicate(timeout=60)
    seconds = time.monotonic() - killed
  return {
    'path': path,
    'code': first.returncode,
    'said': said,
    'seconds': seconds,
    'halted': halted,
    'continued': joined(path, 4),
  }


def test_two_then_four_workers_follow_the_losses_of_one(alone, many):
  found = read_metrics(many['path'] / 'metrics.jsonl')
  assert [m['step'] for m in found] == list(range(1, 51))
  for name in ('train_loss', 'grad_norm'):
    np.testing.assert_allclose(
      [m[name] for m in found], [m[name] for m in alone], rtol=1e-5
    )
  scored = [m['val_loss'] for m in found if 'val_loss' in m]
  expected = [m['val_loss'] for m in alone if 'val_loss' in m]
  assert len(scored) == 2
  np.testing.assert_allclose(scored, expected, rtol=1e-5)


def test_a_slow_worker_is_waited_for(many):
  assert many['halted']


def test_a_killed_worker_ends_all_with_one_message(many):
  assert many['seconds'] < 60
  assert many['code'] == 1
  [chief, launcher] = many['said'].strip().splitlines()[-2:]
  assert 'worker 0 of 2 lost contact with another' in chief
  assert re.search(r'last checkpoint \(.*step-000000[123]0\)', chief)
  assert launcher == 'launch: worker 1 was ended by signal 9'
  step = int(re.search(r'after step (\d+)', many['continued'])[1])
  assert f'step-{step:08d}' in chief


def test_several_devices_of_one_process_follow_the_losses_of_one(
  alone, tmp_path
):
  code = f"""
import sys
from pathlib import Path
from minigpt.runtime import startup
startup.configure()
import tensorflow as tf
cpu = tf.config.list_physical_devices('CPU')[0]
tf.config.set_logical_device_configuration(
  cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
from minigpt.training.distribution import MultiWorker
from minigpt.training.run_setup import open_run
overrides = {FLAGS | dict(compile='hybrid')}
workers = MultiWorker(tf.distribute.MirroredStrategy(['CPU:0', 'CPU:1']))
with open_run(Path('.'), overrides, workers=workers) as run:
  run.train(lambda trainer, _: trainer.step < 6 or sys.exit(0))
"""
  made = helpers.run('-c', code, cwd=tmp_path)
  assert made.returncode == 0, made.stderr
  found = [m['train_loss'] for m in read_metrics(tmp_path / 'metrics.jsonl')]
  expected = [m['train_loss'] for m in alone[:6]]
  np.testing.assert_allclose(found, expected, rtol=1e-5)


def cluster(index=0, **jobs) -> str:
  job = 'chief' if 'chief' in jobs and not index else 'worker'
  task = {'type': job, 'index': index}
  return json.dumps({'cluster': jobs, 'task': task})


def test_a_cluster_is_read():
  assert cluster_lib.read_cluster('') is None
  assert cluster_lib.read_cluster(cluster(worker=['a:1'])) is None
  found = cluster_lib.read_cluster(cluster(1, worker=['a:1', '[::1]:2']))
  assert found == (('a:1', '[::1]:2'), 1)
  found = cluster_lib.read_cluster(cluster(chief=['c:1'], worker=['w:1']))
  assert found == (('c:1', 'w:1'), 0)
  found = cluster_lib.read_cluster(cluster('1', worker=['a:1', 'b:1']))
  assert found == (('a:1', 'b:1'), 1)


@pytest.mark.parametrize(
  'text',
  [
    '{',
    '7',
    '{}',
    '{"cluster": {"worker": 3}, "task": {"type": "worker", "index": 0}}',
    cluster(2, worker=['a:1', 'b:1']),
    cluster(True, worker=['a:1', 'b:1']),
    cluster('one', worker=['a:1', 'b:1']),
    cluster(float('inf'), worker=['a:1', 'b:1']),
    cluster(worker=['a:1', 'b']),
    cluster(worker=['a:1', 'b:99999']),
    cluster(worker=['a:1', 'a:1']),
    cluster(worker=['a:1', 'b:1'], ps=['c:1']),
  ],
)
def test_a_malformed_cluster_is_refused(text):
  with pytest.raises(UsageError, match='TF_CONFIG is malformed') as caught:
    cluster_lib.read_cluster(text)
  assert '\n' not in str(caught.value)


def test_a_port_that_is_taken_is_named(monkeypatch):
  with socket.socket() as taken:
    taken.bind(('127.0.0.1', 0))
    taken.listen()
    port = taken.getsockname()[1]
    addresses = [f'127.0.0.1:{port}', '127.0.0.1:1']
    monkeypatch.setenv('TF_CONFIG', cluster(worker=addresses))
    with pytest.raises(InputError, match=f'port {port} cannot be opened'):
      distribution.connect()


def test_a_batch_that_cannot_be_shared_is_refused():
  class Three:
    num_replicas_in_sync = 3

  workers = distribution.MultiWorker(Three(), 1, 3)
  workers.check_batch_size(TrainConfig(batch_size=6))
  with pytest.raises(UsageError, match='choose a multiple of 3'):
    workers.check_batch_size(TrainConfig(batch_size=4))
