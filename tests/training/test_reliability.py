"""Runs that are stopped, killed, damaged and continued."""

import contextlib
import json
import os
import shutil
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
from minigpt.training import run_setup
from minigpt.training.metrics import read_metrics, say_nothing
from minigpt.training.run_setup import prepare
from minigpt.training.trainer import Finished, Stopped, Trainer

ROOT = Path(__file__).parents[2]
TINY = helpers.TINY
open_run = helpers.open_tiny_run


def variables(run: Trainer) -> dict[str, np.ndarray]:
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
def whole(tmp_path_factory) -> Trainer:
  """An uninterrupted run."""
  with open_run(tmp_path_factory.mktemp('runs') / 'whole') as run:
    assert run.train() == Finished()
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
  scored = Trainer.evaluate

  def terminated(self):
    if self.step == 20:
      os.kill(os.getpid(), signal.SIGTERM)
      time.sleep(1.0)  # Gives the thread that reads signals some time.
    return scored(self)

  monkeypatch.setattr(Trainer, 'evaluate', terminated)
  with open_run(path) as first:
    assert first.train() == Stopped(signal.SIGTERM)
  monkeypatch.undo()
  assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL
  assert [m['step'] for m in read_metrics(path / 'metrics.jsonl')][-1] == 20

  _continue_until_killed(path, n_lines=32)
  with open_run(path) as last:
    # The newest checkpoint may not have been finished.
    assert last.step in (20, 30, 40)
    assert last.train() == Finished()
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
  data = whole.data
  tokens = tmp_path / 'tokens.npy'
  np.save(tokens, np.concatenate([data.train.tokens, data.val]))
  values = preset_values('shakespeare-char', {**TINY, 'dataset': str(tokens)})
  setup = prepare(resolve(values), data.tokenizer)
  run = Trainer(tmp_path / 'run', setup.config, setup.data)
  workdir.create_folders(run.path)

  def disturb(trainer, _):
    if trainer.step > 20 and tokens.exists():
      tokens.unlink()
      monkeypatch.setattr(time, 'time', lambda: 0.0)
      monkeypatch.setattr(time, 'time_ns', lambda: 0)
    for i, path in enumerate(workdir.checkpoints(run.path).glob('step-*')):
      with contextlib.suppress(FileNotFoundError):
        os.utime(path, (i * 2**31, i * 2**31))

  assert run.train(disturb) == Finished()
  assert curve(run.path) == curve(whole.path)
  kept = checkpoint.list_checkpoints(workdir.checkpoints(run.path))
  assert kept[-1].step == 60
  with pytest.raises(InputError, match=r'tokens\.npy: No such file'):
    prepare(resolve(values), data.tokenizer)


def test_changed_text_is_noticed(whole):
  windows, val = whole.data.train, whole.data.val
  workdir.check_same_data(whole.path, fingerprint(windows.tokens, val))
  changed = np.array(windows.tokens)
  changed[0] ^= 1
  with pytest.raises(InputError, match='the text has changed'):
    workdir.check_same_data(whole.path, fingerprint(changed, val))


def test_a_run_that_an_earlier_version_began_continues(tmp_path):
  """Its losses are as they were then, exactly on the same processor."""
  golden = ROOT / 'tests' / 'golden'
  path = Path(shutil.copytree(golden / 'run', tmp_path / 'run'))
  with run_setup.open_run(path, say=say_nothing) as run:
    assert run.step == 20
    assert run.train() == Finished()
  before = json.loads((golden / 'run' / 'config.json').read_text())
  after = json.loads((path / 'config.json').read_text())
  for part, fields in before.items():
    assert fields.items() <= after[part].items(), part
  wanted = read_metrics(golden / 'run_continued.jsonl')
  found = read_metrics(path / 'metrics.jsonl')[20:]
  for name in ('train_loss', 'grad_norm', 'learning_rate'):
    np.testing.assert_allclose(
      [m[name] for m in found], [m[name] for m in wanted], rtol=1e-4
    )
