"""Runs that are stopped, killed, damaged and continued."""

import contextlib
import json
import os
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import helpers
import numpy as np
import pytest
import tensorflow as tf

from minigpt.checkpoints import checkpoint, workdir
from minigpt.checkpoints.async_checkpointer import Saver
from minigpt.config import preset_values, settle
from minigpt.data.windows import fingerprint
from minigpt.errors import InputError
from minigpt.model.params import named_leaves
from minigpt.runtime import lock
from minigpt.training.metrics import MetricsFile, read_metrics
from minigpt.training.trainer import Fit, fit, prepare

ROOT = Path(__file__).parents[2]
TINY = helpers.TINY
start = helpers.start_run


def variables(run: Fit) -> dict[str, np.ndarray]:
  return {
    f'{part}.{name}': leaf.numpy()
    for part, tree in run.state.parts().items()
    for name, leaf in named_leaves(tree).items()
  }


def curve(path: Path) -> list[tuple]:
  names = ('step', 'train_loss', 'grad_norm', 'learning_rate', 'val_loss')
  return [
    tuple(m.get(name) for name in names)
    for m in read_metrics(path / 'metrics.jsonl')
  ]


@pytest.fixture(scope='module')
def whole(tmp_path_factory) -> Fit:
  """A run that nothing disturbed."""
  run = start(tmp_path_factory.mktemp('runs') / 'whole')
  assert fit(run) == 0
  return run


def wait_for(condition, seconds=120):
  deadline = time.monotonic() + seconds
  while not condition():
    assert time.monotonic() < deadline, 'it took too long'
    time.sleep(0.02)


def test_a_run_that_was_terminated_then_killed_ends_bit_for_bit_the_same(
  whole, tmp_path, monkeypatch
):
  path = tmp_path / 'run'
  first = start(path)
  scored = Fit.evaluate

  def terminated(self):
    if self.step == 20:
      os.kill(os.getpid(), signal.SIGTERM)
      time.sleep(0.2)
    return scored(self)

  monkeypatch.setattr(Fit, 'evaluate', terminated)
  assert fit(first) == signal.SIGTERM
  monkeypatch.undo()
  assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL
  assert [m['step'] for m in read_metrics(path / 'metrics.jsonl')][-1] == 20

  _continue_until_killed(path, n_lines=32)
  last = start(path)
  assert last.step in (20, 30, 40)  # The newest may still have been on its way.
  assert fit(last) == 0
  assert curve(path) == curve(whole.path)
  for name, value in variables(whole).items():
    np.testing.assert_array_equal(value, variables(last)[name], name)


def _continue_until_killed(path: Path, n_lines: int) -> None:
  program = helpers.start('train.py', f'--workdir={path}')
  metrics = path / 'metrics.jsonl'
  wait_for(lambda: metrics.read_bytes().count(b'\n') >= n_lines)
  assert (path / 'lock').read_text() == str(program.pid)
  refused = pytest.raises(InputError, match=f'by process {program.pid};')
  with refused, lock.held(path, 'workdir'):
    pass
  program.kill()
  program.join()
  with lock.held(path, 'workdir'):
    assert (path / 'lock').read_text() == str(os.getpid())


def test_a_second_signal_leaves_at_once():
  code = (
    'import hashlib\n'
    'from minigpt.runtime.signals import StopRequest\n'
    'with StopRequest("stopping") as stop:\n'
    '  print("ready", flush=True)\n'
    # One native call: Python's own handlers never run.
    '  hashlib.pbkdf2_hmac("sha256", b"", b"", 10**9)\n'
  )
  program = subprocess.Popen(
    [sys.executable, '-c', code],
    cwd=ROOT,
    stdout=subprocess.PIPE,
    stderr=subprocess.PIPE,
    text=True,
  )
  # Not SIGINT: a shell starts what runs in the background deaf to it.
  with program:
    try:
      assert program.stdout.readline() == 'ready\n'
      program.send_signal(signal.SIGTERM)
      assert program.stderr.readline() == 'stopping\n'
      program.send_signal(signal.SIGTERM)
      assert program.wait(10) == 128 + signal.SIGTERM
    finally:
      program.kill()


class State:
  """A stand-in for a train state: two variables."""

  def __init__(self, value: float):
    self.x = tf.Variable(tf.fill([50], value))
    self.step = tf.Variable(0, dtype=tf.int64)

  def parts(self):
    return {'x': self.x, 'step': self.step}

  def checkpoint(self):
    return tf.train.Checkpoint(**self.parts())


@pytest.fixture
def two_checkpoints(tmp_path):
  for step in (1, 2):
    info = {'val_loss': 1.0 / step}
    checkpoint.save(tmp_path, step, State(float(step)).checkpoint(), info)
  return tmp_path


def damage_cut(content: bytes, where: float) -> bytes:
  return content[: int(len(content) * where)]


def damage_flip(content: bytes, where: float) -> bytes:
  place = int((len(content) - 1) * where)
  return content[:place] + bytes([content[place] ^ 0x10]) + content[place + 1 :]


@pytest.mark.parametrize('damage', [damage_cut, damage_flip])
@pytest.mark.parametrize('where', [0.0, 0.3, 0.6])
@pytest.mark.parametrize(
  'name', ['state.index', 'state.data-00000-of-00001', 'info.json']
)
def test_a_damaged_checkpoint_is_named_and_the_one_before_is_used(
  two_checkpoints, name, where, damage
):
  file = two_checkpoints / 'step-00000002' / name
  file.write_bytes(damage(file.read_bytes(), where))
  state = State(0.0)
  found, [damaged] = checkpoint.restore_newest(
    two_checkpoints, state.checkpoint()
  )
  assert found.step == 1
  np.testing.assert_array_equal(state.x, np.ones(50, np.float32))
  assert damaged.path == file.parent
  moved = checkpoint.set_aside(damaged)
  assert moved.name == 'damaged-step-00000002'
  assert [c.step for c in checkpoint.list_checkpoints(two_checkpoints)] == [1]


def test_without_a_whole_checkpoint_a_run_does_not_start_over(two_checkpoints):
  for path in two_checkpoints.iterdir():
    (path / 'state.index').unlink()
  with pytest.raises(InputError, match='no checkpoint in'):
    checkpoint.restore_newest(two_checkpoints, State(0.0).checkpoint())


def test_what_killed_writers_left_is_swept(tmp_path):
  folder = workdir.checkpoints(tmp_path)
  (folder / '.tmp-step-00000001-99').mkdir(parents=True)
  (folder / '.tmp-step-00000001-99' / 'state.index').touch()
  (folder / 'step-00000001').mkdir()
  (tmp_path / '.tmp-config.json-99').touch()
  (tmp_path / 'tokenizer.json.tmp-99').touch()
  (tmp_path / 'config.json').touch()
  workdir.sweep(tmp_path)
  assert {p.name for p in tmp_path.rglob('*')} == {
    'checkpoints',
    'step-00000001',
    'config.json',
  }


def test_a_snapshot_is_of_the_moment_it_was_taken(tmp_path):
  state = State(1.0)

  @tf.function(jit_compile=True)
  def step():
    state.x.assign_add(tf.ones([50]))

  saver = Saver(tmp_path, keep=2)
  saver.save(1, state.parts(), {'val_loss': None})
  for _ in range(20):
    step()
  saver.wait()
  back = State(0.0)
  checkpoint.restore_newest(tmp_path, back.checkpoint())
  np.testing.assert_array_equal(back.x, np.ones(50, np.float32))
  np.testing.assert_array_equal(state.x, np.full(50, 21, np.float32))


def test_a_state_that_is_not_finite_is_never_saved(tmp_path):
  saver = Saver(tmp_path, keep=2)
  saver.save(1, State(np.nan).parts(), {})
  with pytest.raises(InputError, match='x is not finite after step 1'):
    saver.wait()
  assert not list(tmp_path.iterdir())


def test_a_full_disk_is_reported_and_leaves_nothing(tmp_path, monkeypatch):
  def full(_):
    raise OSError(28, 'No space left on device')

  monkeypatch.setattr(os, 'fsync', full)
  saver = Saver(tmp_path, keep=2)
  saver.save(1, State(1.0).parts(), {})
  with pytest.raises(InputError, match='No space left on device'):
    saver.save(2, State(1.0).parts(), {})
  assert not list(tmp_path.iterdir())


@contextlib.contextmanager
def files_of_at_most(n_bytes: int):
  """The kernel itself refuses to let a file grow beyond that."""
  former = resource.getrlimit(resource.RLIMIT_FSIZE)
  resource.setrlimit(resource.RLIMIT_FSIZE, (n_bytes, former[1]))
  try:
    yield
  finally:
    resource.setrlimit(resource.RLIMIT_FSIZE, former)


def test_files_that_cannot_grow_leave_nothing_half_written(two_checkpoints):
  before = sorted(two_checkpoints.rglob('*'))
  saver = Saver(two_checkpoints, keep=2)
  with files_of_at_most(64):
    saver.save(3, State(1.0).parts(), {})
    with pytest.raises(InputError, match='step-00000003 could not be written'):
      saver.wait()
    metrics = MetricsFile(two_checkpoints / 'metrics.jsonl', 0)
    with pytest.raises(InputError, match='continues from its last checkpoint'):
      metrics.write([{'step': 1, 'train_loss': 1.0}] * 9)
    metrics.close()
  (two_checkpoints / 'metrics.jsonl').unlink()
  assert sorted(two_checkpoints.rglob('*')) == before
  found, damages = checkpoint.restore_newest(
    two_checkpoints, State(0.0).checkpoint()
  )
  assert (found.step, damages) == (2, [])


def test_neither_the_clock_nor_a_vanished_token_file_changes_a_run(
  whole, tmp_path, monkeypatch
):
  text = whole.prepared
  tokens = tmp_path / 'tokens.npy'
  np.save(tokens, np.concatenate([text.windows.tokens, text.val]))
  values = preset_values('shakespeare-char', {**TINY, 'dataset': str(tokens)})
  run = Fit(tmp_path / 'run', prepare(settle(values), text.tokenizer))
  run.path.mkdir()

  def disturb(fit_, _):
    if fit_.step > 20 and tokens.exists():
      tokens.unlink()
      monkeypatch.setattr(time, 'time', lambda: 0.0)
      monkeypatch.setattr(time, 'time_ns', lambda: 0)
    for i, path in enumerate(workdir.checkpoints(run.path).glob('step-*')):
      with contextlib.suppress(FileNotFoundError):
        os.utime(path, (i * 2**31, i * 2**31))

  assert fit(run, disturb) == 0
  assert curve(run.path) == curve(whole.path)
  kept = checkpoint.list_checkpoints(workdir.checkpoints(run.path))
  assert kept[-1].step == 60
  with pytest.raises(InputError, match=r'tokens\.npy: No such file'):
    prepare(settle(values), text.tokenizer)


def test_metrics_survive_a_kill_while_the_file_is_reopened(
  tmp_path, monkeypatch
):
  path = tmp_path / 'metrics.jsonl'
  path.write_text(
    ''.join(
      json.dumps({'step': s, 'train_loss': 1.0}) + '\n' for s in (1, 2, 3)
    )
  )

  def killed(*_):
    raise KeyboardInterrupt

  with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
    patch.setattr(Path, 'replace', killed)
    MetricsFile(path, 2)
  assert [m['step'] for m in read_metrics(path)] == [1, 2, 3]
  MetricsFile(path, 2).close()
  assert [m['step'] for m in read_metrics(path)] == [1, 2]


def test_changed_text_is_noticed(whole):
  windows, val = whole.prepared.windows, whole.prepared.val
  workdir.check_same_data(whole.path, fingerprint(windows.tokens, val))
  changed = np.array(windows.tokens)
  changed[0] ^= 1
  with pytest.raises(InputError, match='the text has changed'):
    workdir.check_same_data(whole.path, fingerprint(changed, val))


def test_the_fingerprint_does_not_depend_on_the_chunks():
  a = fingerprint(np.arange(10), np.arange(5), chunk=3)
  assert a == fingerprint(np.arange(10), np.arange(5))
  assert a.n_tokens == 15


def test_a_lock_leaves_no_folder_where_nothing_was_written(tmp_path):
  with lock.held(tmp_path / 'new', 'workdir'):
    pass
  assert not (tmp_path / 'new').exists()
  refused = pytest.raises(InputError, match='choose another --workdir')
  with refused, lock.held(Path('/proc/nowhere'), 'workdir'):
    pass
