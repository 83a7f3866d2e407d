import json

import numpy as np
import pytest

from minigpt.checkpoints import checkpoint, loading, workdir
from minigpt.config import preset_values, resolve
from minigpt.errors import InputError, UsageError
from minigpt.model.params import named_leaves
from minigpt.training.trainer import Fit, fit, plan_calls, prepare

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


def start(path, **changes):
  prepared = prepare(resolve(preset_values('mini', {**SMALL, **changes})))
  workdir.create(path, prepared.run, prepared.tokenizer)
  return Fit(path, prepared)


@pytest.fixture(scope='module')
def finished(tmp_path_factory):
  run = start(tmp_path_factory.mktemp('runs') / 'whole')
  fit(run)
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
  assert trained.run == finished.run
  assert trained.tokenizer.decode([0, 1]) == ' .'
  if trained.checkpoint.step == 12:
    for name, leaf in named_leaves(trained.model.params).items():
      expected = named_leaves(finished.model.params)[name]
      np.testing.assert_array_equal(leaf, expected, name)


def test_a_resumed_run_equals_an_uninterrupted_one(finished, tmp_path):
  """Stops after 8 of 12 steps, with records of two more already written."""
  first = start(tmp_path / 'run')
  for call in plan_calls(0, 8, 5, [4]):
    batch = one_call(first, call)
    first.train_steps(batch, np.int32(len(call)))
  first.best_loss, first.n_worse = 9.0, 0
  first.save({'val_loss': 9.0})
  first.saver.wait()
  lines = (finished.path / 'metrics.jsonl').read_text().splitlines()[:10]
  (tmp_path / 'run' / 'metrics.jsonl').write_text('\n'.join(lines) + '\n{"st')
  samples = tmp_path / 'run' / 'samples.txt'
  samples.write_text('--- step 8\na\n--- b\n--- step 9\nc\n--- step 10\nd\n')
  second = Fit(tmp_path / 'run', first.prepared)
  second.restore()
  assert second.step == 8
  fit(second)
  for a, b in zip(
    second.state.variables, finished.state.variables, strict=True
  ):
    np.testing.assert_array_equal(a, b)
  assert read_metrics(second.path) == read_metrics(finished.path)
  assert samples.read_text() == '--- step 8\na\n--- b\n'


def one_call(run, call):
  from minigpt.data.batches import train_batches

  recipe = run.run.train
  shape = (recipe.grad_accum, recipe.batch_size)
  [batch] = train_batches(
    run.prepared.windows, shape, recipe.seed, [call], recipe.steps_per_call
  )
  return batch


def test_a_checkpoint_of_another_model_is_refused(finished, tmp_path):
  path = checkpoint.save(tmp_path, 1, finished.checkpoint, {})
  other = start(tmp_path / 'other', emb_dim=32)
  with pytest.raises(InputError, match='does not fit'):
    checkpoint.restore(
      checkpoint.Checkpoint(path, 1, {}), other.state.checkpoint()
    )


def test_early_stop_after_evaluations_without_progress(tmp_path):
  rate = {'learning_rate': 1e-12, 'min_learning_rate': 0.0}
  run = start(tmp_path, patience=2, steps=40, compile='graph', **rate)
  run.best_loss = 0.0
  fit(run)
  assert run.step == 8


def test_flags_that_contradict_the_saved_run_are_refused(finished):
  saved = workdir.load_config(finished.path)
  workdir.check_same_run(finished.path, saved, {'emb_dim': 16, 'steps': 99})
  with pytest.raises(UsageError, match=r'--emb_dim=32 contradicts .* 16'):
    workdir.check_same_run(finished.path, saved, {'emb_dim': 32})


def test_epochs_set_the_steps():
  run = prepare(resolve(preset_values('mini', {'epochs': 2.0}))).run
  assert run.train.steps == 34  # (82 - 48) windows, two a step, twice
  with pytest.raises(UsageError, match='steps and epochs'):
    preset_values('mini', {'epochs': 2.0, 'steps': 3})
