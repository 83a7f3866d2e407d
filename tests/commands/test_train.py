"""`minigpt train`, in a process of its own and in this one."""

import json

import helpers
import pytest

from minigpt.data import sources


@pytest.mark.parametrize(
  ('argv', 'code', 'words'),
  [
    (['--preset=mini'], 2, '--workdir is missing'),
    (['--preset=mimi', '--workdir=w'], 2, "did you mean 'mini'"),
    (['--dataset=sampl', '--workdir=w'], 2, "did you mean 'sample'"),
    (['--dataset=no/such.txt', '--workdir=w'], 1, 'no/such.txt'),
    (['--tokenizer=bpo', '--workdir=w'], 2, "did you mean 'bpe'"),
    (['--tokenizer=bpe', '--workdir=w'], 2, 'give --vocab_size'),
    (['--tokenizer=no.json', '--workdir=w'], 1, 'no.json: No such file'),
    (['--special=<a>', '--workdir=w'], 2, '--special is for the bpe'),
    (['--compute_dtype=float23', '--workdir=w'], 2, 'compute_dtype'),
    (['--emb_dim=10', '--n_heads=3', '--workdir=w'], 2, 'emb_dim=10'),
    (['--batch_size=0', '--workdir=w'], 2, 'batch_size=0'),
    (['--learning_rate=-1', '--workdir=w'], 2, 'learning_rate=-1'),
    (['--learning_rate=nan', '--workdir=w'], 2, 'learning_rate=nan'),
    (['--context_length=-5', '--workdir=w'], 2, 'context_length=-5'),
    (['--context_length=500', '--workdir=w'], 2, 'fewer than'),
    (['--val_fraction=1', '--workdir=w'], 2, 'val_fraction=1'),
    (['--workdir=/dev/null/w'], 1, '/dev/null/w'),
    (['--steps=5', '--epochs=1', '--workdir=w'], 2, 'give only one'),
  ],
)
def test_bad_input_gets_one_line(
  capsys, tmp_path, monkeypatch, argv, code, words
):
  monkeypatch.chdir(tmp_path)
  assert helpers.run_here('train', '--dataset=sample', *argv) == code
  lines = capsys.readouterr().err.strip().splitlines()
  assert len(lines) == 1 and words in lines[0]
  assert list(tmp_path.iterdir()) == []


def test_a_dry_run_counts_parameters_and_writes_nothing(
  capsys, tmp_path, monkeypatch
):
  monkeypatch.chdir(tmp_path)
  argv = '--dry_run', '--preset=mini', '--dataset=sample'
  assert helpers.run_here('train', *argv) == 0
  assert '38,528' in capsys.readouterr().out
  assert list(tmp_path.iterdir()) == []


def test_the_specifications_run_learns_its_text(tmp_path):
  """Trains ten epochs at batch 2, then generates greedy text in bfloat16.

  Of the seeds 0 to 9, this one gives the lowest accuracy.
  """
  workdir = tmp_path / 'mini'
  flags = ['--preset=mini', '--dataset=sample', '--seed=3']
  flags.append(f'--workdir={workdir}')
  trained = helpers.run('train.py', *flags)
  assert trained.returncode == 0, trained.stderr
  assert 'compiled in' in trained.stdout
  assert 'best validation loss' in trained.stdout
  last = (workdir / 'metrics.jsonl').read_text().splitlines()[-1]
  assert json.loads(last)['step'] == 170
  assert json.loads(last)['val_accuracy'] >= 0.95
  flags = ['--prompt=the ', '--temperature=0', '--max_new_tokens=36']
  flags += [f'--workdir={workdir}', '--compute_dtype=bfloat16']
  written = helpers.run('-m', 'minigpt', 'generate', *flags)
  assert written.returncode == 0, written.stderr
  assert written.stderr == ''
  assert written.stdout.rstrip('\n') in sources.SAMPLE
  assert len(written.stdout) == 41
