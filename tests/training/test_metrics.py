"""metrics.jsonl: written, damaged, truncated, continued."""

import errno
import json
import os
from pathlib import Path

import pytest

from minigpt.errors import InputError
from minigpt.training import metrics
from minigpt.training.metrics import (
  MetricsFile,
  add_sample,
  cut_samples,
  read_metrics,
)


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


GOOD = '{"step": 1, "train_loss": 2.0}\n'
BAD = [
  '{"step": 2, "train_l',
  '\0' * 20,
  '{"step": 1e999, "train_loss": 1}',
  '{"step": Infinity, "train_loss": 1}',
  '{"step": 2, "train_loss": "x"}',
  '[' * 100_000,
  '7',
]


@pytest.mark.parametrize('bad', BAD, ids=range(len(BAD)))
def test_only_a_last_line_may_be_cut(tmp_path, bad):
  path = tmp_path / 'metrics.jsonl'
  path.write_text(GOOD + bad)
  assert [m['step'] for m in read_metrics(path)] == [1]
  path.write_text(f'{GOOD}{bad}\n{GOOD}')
  for read in (read_metrics, lambda path: MetricsFile(path, 9)):
    with pytest.raises(InputError, match=r'metrics\.jsonl, line 2: .*; repair'):
      read(path)
  assert path.read_text() == f'{GOOD}{bad}\n{GOOD}'


def test_a_quota_that_is_noticed_late_is_one_line(tmp_path, monkeypatch):
  """Network file systems report it only at fsync or close."""

  def full(*_):
    raise OSError(errno.EDQUOT, 'Disk quota exceeded')

  file = MetricsFile(tmp_path / 'metrics.jsonl', 0)
  monkeypatch.setattr(os, 'fsync', full)
  with pytest.raises(InputError, match='Disk quota exceeded'):
    file.sync()
  file.close()


def test_samples_on_a_full_disk_are_one_line(tmp_path, monkeypatch):
  with open('/dev/full', 'a') as full:
    monkeypatch.setattr(metrics, 'open_to_append', lambda _: full)
    with pytest.raises(InputError, match=r'samples\.txt could .*No space'):
      add_sample(tmp_path / 'samples.txt', 3, 'text')


def test_samples_do_not_follow_links(tmp_path):
  (tmp_path / 'precious').write_text('x')
  for target in ('precious', 'new'):
    path = tmp_path / 'samples.txt'
    path.unlink(missing_ok=True)
    path.symlink_to(target)
    with pytest.raises(InputError, match=r'samples\.txt could not be written'):
      add_sample(path, 3, 'text')
  assert (tmp_path / 'precious').read_text() == 'x'
  assert not (tmp_path / 'new').exists()


def test_samples_of_any_bytes_are_cut(tmp_path):
  path = tmp_path / 'samples.txt'
  path.write_bytes(b'--- step 8\n\xff\n--- step 9\nb\n')
  cut_samples(path, 8)
  assert path.read_bytes() == b'--- step 8\n\xff\n'


EVALUATED = {
  'step': 34,
  'train_loss': 1.5,
  'val_loss': 1.25,
  'val_accuracy': 0.5,
  'learning_rate': 0.01,
  'grad_norm': 1.0,
  'tokens_per_second': 1000.0,
}


@pytest.mark.parametrize(
  ('epochs', 'begin'),
  [
    (10.0, 'epoch 2/10  step 34/170  loss 1.5000  val 1.2500  acc 0.500  '),
    (2.5, 'epoch 0.5/2.5  step 34/170  '),
    (0.0, 'step 34/170  loss 1.5000  '),
  ],
)
def test_a_run_given_in_epochs_shows_them(epochs, begin):
  assert shown(EVALUATED, epochs).startswith(begin)


def test_the_end_of_an_epoch_shows_both_parts():
  ends = {'epoch': 2.0, 'train_eval_loss': 1.125, 'train_eval_accuracy': 0.75}
  # The epoch began in the step before, so its number would be 2.06.
  record = EVALUATED | ends | {'step': 35}
  assert shown(record, 10.0).startswith(
    'epoch 2/10  step 35/170  train 1.1250  acc 0.750  val 1.2500  acc 0.500  '
  )


def shown(record, epochs):
  lines = []
  bar = metrics.ProgressBar(0, 170, lines.append, epochs)
  bar.step(record, important=True)
  bar.close()
  [line] = lines
  return line
