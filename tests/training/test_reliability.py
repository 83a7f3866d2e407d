"""Runs that are stopped, killed, damaged and continued."""

import contextlib
import os
import signal
import time
from pathlib import Path

import helpers
import numpy as np
import pytest

from minigpt.checkpoints import checkpoint, workdir
from minigpt.config import preset_values, resolve
from minigpt.data.windows import fingerprint
from minigpt.errors import InputError
from minigpt.model.params import named_leaves
from minigpt.runtime import lock
from minigpt.training.metrics import read_metrics
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


def test_neither_the_clock_nor_a_vanished_token_file_changes_a_run(
  whole, tmp_path, monkeypatch
):
  text = whole.prepared
  tokens = tmp_path / 'tokens.npy'
  np.save(tokens, np.concatenate([text.windows.tokens, text.val]))
  values = preset_values('shakespeare-char', {**TINY, 'dataset': str(tokens)})
  run = Fit(tmp_path / 'run', prepare(resolve(values), text.tokenizer))
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
    prepare(resolve(values), text.tokenizer)


def test_changed_text_is_noticed(whole):
  windows, val = whole.prepared.windows, whole.prepared.val
  workdir.check_same_data(whole.path, fingerprint(windows.tokens, val))
  changed = np.array(windows.tokens)
  changed[0] ^= 1
  with pytest.raises(InputError, match='the text has changed'):
    workdir.check_same_data(whole.path, fingerprint(changed, val))
