import json
import os
import re
import shutil
import signal
import time
from fractions import Fraction

import numpy as np
import pytest

from minigpt.checkpoints import checkpoint, loading, workdir
from minigpt.config import TrainConfig
from minigpt.errors import InputError
from minigpt.model.params import named_leaves
from minigpt.runtime import atomic_io
from minigpt.training.metrics import say_nothing
from minigpt.training.run_setup import open_run
from minigpt.training.trainer import (
  Finished,
  Stopped,
  Trainer,
  plan_calls,
  save_interval,
)
from minigpt.training.validation import EvalHistory, evaluate

SMALL = {
  'emb_dim': 16,
  'context_length': 16,
  'epochs': 0.0,
  'steps': 12,
  'steps_per_call': 5,
  'eval_every': 4,
  'eval_stride': 0,
  'drop_rate': 0.1,
  'keep_checkpoints': 3,
  'optimizer': 'muon',  # and AdamW beside it
}


def open_small_run(path, **changes):
  overrides = {**SMALL, **changes}
  return open_run(path, overrides, preset='mini', say=say_nothing)


@pytest.fixture(scope='module')
def finished(tmp_path_factory):
  path = tmp_path_factory.mktemp('runs') / 'whole'
  with open_small_run(path) as run:
    assert run.train() == Finished()
  return run


def read_metrics(path):
  lines = (path / 'metrics.jsonl').read_text().splitlines()
  metrics = [json.loads(line) for line in lines]
  return [
    {k: v for k, v in m.items() if k != 'tokens_per_second'} for m in metrics
  ]


def test_calls_stop_at_every_event():
  calls = plan_calls(3, 20, 5, [4, 10, 0])
  assert [(c.start, c.stop) for c in calls] == [
    (3, 4),
    (4, 8),
    (8, 10),
    (10, 12),
    (12, 16),
    (16, 20),
  ]
  assert plan_calls(20, 20, 5, [4]) == []
  # Epochs of 2.5 steps end in the steps 3, 5, 8 and 10; those of 0.4 in each.
  calls = plan_calls(0, 11, 9, [Fraction(5, 2)])
  assert [c.stop for c in calls] == [3, 5, 8, 10, 11]
  assert len(plan_calls(0, 4, 9, [Fraction(2, 5)])) == 4


@pytest.mark.parametrize(
  ('changes', 'most'),
  [
    ({'eval_every': 7}, 7),
    ({'eval_every': 0}, 0),
    ({'eval_every': 0, 'epochs': 2.5, 'steps': 24}, 10),
    ({'eval_every': 7, 'epochs': 2.5, 'steps': 24}, 7),
    ({'checkpoint_every': 50, 'epochs': 2.5, 'steps': 24}, 50),
  ],
)
def test_checkpoints_come_with_evaluations(changes, most):
  assert save_interval(TrainConfig(**changes)) == most


def test_a_run_in_epochs_is_evaluated_after_each(tmp_path):
  """Both parts are scored; 41 windows in batches of 8 are 5.125 steps."""
  said = []
  changes = {**SMALL, 'epochs': 2.5, 'eval_every': 4}
  changes |= dict(batch_size=8, val_fraction=0.3, compile='graph')
  del changes['steps']
  with open_run(
    tmp_path / 'run', changes, preset='mini', say=said.append
  ) as run:
    assert run.data.train.n_examples == 41
    run.train()
  metrics = read_metrics(run.path)
  assert len(metrics) == 13
  epochs = {m['step']: m['epoch'] for m in metrics if 'epoch' in m}
  assert epochs == {6: 1, 11: 2, 13: 2.5}
  evaluated = [m['step'] for m in metrics if 'val_loss' in m]
  assert evaluated == [4, 6, 8, 11, 12, 13]
  assert ['train_eval_loss' in m for m in metrics] == [
    m['step'] in epochs for m in metrics
  ]
  found = evaluate(run.eval_step, run.data.train.tokens, 16, 256)
  assert metrics[-1]['train_eval_loss'] == pytest.approx(found.loss)
  assert metrics[-1]['train_eval_accuracy'] == pytest.approx(found.accuracy)
  assert metrics[-1]['val_loss'] != pytest.approx(found.loss, rel=1e-3)
  [line] = [line for line in said if line.startswith('epoch 2/2.5  step 11/13')]
  for part in ('train', 'val'):
    assert re.search(rf'{part} \d\.\d{{4}}  acc 0\.\d{{3}}  ', line)
  saved = checkpoint.list_checkpoints(workdir.checkpoints(run.path))
  assert [c.step for c in saved][-3:] == [11, 12, 13]


def test_a_run_leaves_what_the_documentation_says(finished):
  metrics = read_metrics(finished.path)
  assert [m['step'] for m in metrics] == list(range(1, 13))
  keys = {'step', 'train_loss', 'learning_rate', 'grad_norm'}
  assert set(metrics[0]) == keys
  assert set(metrics[3]) == keys | {'val_loss', 'val_accuracy'}
  found = checkpoint.list_checkpoints(workdir.checkpoints(finished.path))
  assert [c.step for c in found] == [4, 8, 12]
  best = min(found, key=lambda c: c.info['val_loss'])
  assert checkpoint.best(found) == best
  assert best.info['val_loss'] == metrics[best.step - 1]['val_loss']


def test_a_trained_model_reads_back_as_it_was(finished):
  trained = loading.load_trained(finished.path)
  assert trained.run == finished.config
  assert trained.tokenizer.decode([0, 1]) == ' .'
  if trained.checkpoint.step == 12:
    for name, leaf in named_leaves(trained.model.params).items():
      expected = named_leaves(finished.model.params)[name]
      np.testing.assert_array_equal(leaf, expected, name)


def test_a_resumed_run_equals_an_uninterrupted_one(finished, tmp_path):
  """The run stops after 8 of 12 steps, with records of two more written."""
  with open_small_run(tmp_path / 'run') as first:
    for call in plan_calls(0, 8, 5, [4]):
      batch = one_call(first, call)
      first.train_steps(batch, np.int32(len(call)))
    first.history = EvalHistory(9.0, 0)
    first.save({'val_loss': 9.0})
    first.checkpointer.wait()
  lines = (finished.path / 'metrics.jsonl').read_text().splitlines()[:10]
  (tmp_path / 'run' / 'metrics.jsonl').write_text('\n'.join(lines) + '\n{"st')
  samples = tmp_path / 'run' / 'samples.txt'
  samples.write_text('--- step 8\na\n--- b\n--- step 9\nc\n--- step 10\nd\n')
  with open_small_run(tmp_path / 'run') as second:
    assert second.step == 8
    second.train()
  for a, b in zip(
    second.state.variables, finished.state.variables, strict=True
  ):
    np.testing.assert_array_equal(a, b)
  assert read_metrics(second.path) == read_metrics(finished.path)
  assert samples.read_text() == '--- step 8\na\n--- b\n'


def one_call(run, call):
  from minigpt.data.batches import train_batches

  recipe = run.recipe
  shape = (recipe.grad_accum, recipe.batch_size)
  [batch] = train_batches(
    run.data.train, shape, recipe.seed, [call], recipe.steps_per_call
  )
  return batch


def test_a_checkpoint_of_another_model_is_refused(finished, tmp_path):
  path = checkpoint.save(tmp_path, 1, finished.state.checkpoint(), {})
  with open_small_run(tmp_path / 'other', emb_dim=32) as run:
    other = run
  with pytest.raises(InputError, match='does not fit'):
    checkpoint.restore(
      checkpoint.Checkpoint(path, 1, {}), other.state.checkpoint()
    )


def test_a_run_without_progress_stops_and_stays_so(tmp_path, monkeypatch):
  monkeypatch.setattr(Trainer, 'continuation', lambda run: 'To be')
  rate = {'learning_rate': 1e-12, 'min_learning_rate': 0.0}
  changes = dict(steps=40, compile='graph', keep_checkpoints=1, **rate)
  path = tmp_path / 'run'
  with open_small_run(path, patience=2, **changes) as run:
    run.history = EvalHistory(best_loss=0.0)
    assert run.train() == Finished()
    assert run.step == 8
    run.summary(1.0)
  before = sorted(path.rglob('step-*'))
  for _ in range(2):
    with open_small_run(path, patience=2, **changes) as run:
      assert run.train() == Finished()
      assert run.step == 8
      assert 'To be' in run.summary(1.0)  # Shown, not written.
  samples = (path / 'samples.txt').read_text()
  assert samples.count('--- step 8\nTo be') == 1
  assert sorted(path.rglob('step-*')) == before
  # With more patience, it trains on.
  with open_small_run(path, patience=3, **changes) as run:
    run.train()
    assert run.step == 12


def test_a_run_that_was_never_evaluated_ends_with_words(tmp_path):
  def stop(run, _):
    if run.step == 8:
      os.kill(os.getpid(), signal.SIGTERM)
      time.sleep(1.0)  # Gives the thread that reads signals some time.

  path = tmp_path / 'run'
  changes = dict(eval_every=0, checkpoint_every=4, compile='graph')
  with open_small_run(path, steps=40, **changes) as run:
    assert run.train(stop) == Stopped(signal.SIGTERM)
  with open_small_run(path, steps=5, **changes) as run:
    assert run.train() == Finished()
    assert run.step == 8
    assert '8 steps in 0:01; no checkpoint was evaluated' in run.summary(1.0)


def test_a_save_that_fails_ends_the_run_at_once(tmp_path, monkeypatch):
  """The error comes before the next save, so no further work is lost."""

  def full_disk(path):
    raise OSError(28, 'No space left on device')

  def observe(run, _):
    if run.step == 10:
      monkeypatch.setattr(atomic_io, 'fsync', full_disk)
    elif run.step > 10:
      run.checkpointer.finish()

  changes = dict(steps=40, steps_per_call=1, eval_every=10, compile='graph')
  with (
    pytest.raises(InputError, match='step-00000010 could not be written'),
    open_small_run(tmp_path / 'run', **changes) as run,
  ):
    run.train(observe)
  assert run.step == 12
  assert [m['step'] for m in read_metrics(run.path)][-1] == 11


@pytest.mark.parametrize('is_deleted', [True, False])
def test_a_directory_that_is_taken_away_ends_the_run(tmp_path, is_deleted):
  """The directory is not recreated with half of a run in it."""
  path, moved = tmp_path / 'run', tmp_path / 'moved'

  def observe(run, _):
    if run.step == 6:
      run.checkpointer.finish()
      path.rename(moved)
      if is_deleted:
        shutil.rmtree(moved)

  changes = dict(steps_per_call=1, compile='graph')
  with (
    pytest.raises(InputError, match='run was renamed or deleted') as caught,
    open_small_run(path, **changes) as run,
  ):
    run.train(observe)
  assert '\n' not in str(caught.value)
  assert run.step == 7
  assert not path.exists()
  if not is_deleted:
    # Only the steps since the last checkpoint are lost.
    with open_small_run(moved, **changes) as run:
      assert run.step == 4
      run.train()
    assert [m['step'] for m in read_metrics(moved)] == list(range(1, 13))
