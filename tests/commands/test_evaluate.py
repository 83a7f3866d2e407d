"""`minigpt evaluate`: its output, its records and its errors."""

import json

import helpers
import pytest
import small_models

from minigpt import tokenizers
from minigpt.analysis import perplexity
from minigpt.checkpoints import workdir
from minigpt.data import corpus
from minigpt.training.metrics import read_metrics


@pytest.fixture(scope='module')
def model():
  return small_models.letters()


def evaluate(**flags):
  flags = [f'--{name}={value}' for name, value in flags.items()]
  return helpers.run('-m', 'minigpt', 'evaluate', *flags)


def test_the_program_prints_and_records(tmp_path, model):
  run = tmp_path / 'run'
  workdir.write(run, *model[:3])
  text = 'a bad cab\nfeed a bee'
  (tmp_path / 'text.txt').write_text(text)
  flags = dict(workdir=run, dataset=tmp_path / 'text.txt', json=True)
  result = evaluate(window=10, stride=5, **flags)
  assert result.returncode == 0, result.stderr
  found = json.loads(result.stdout)
  want = perplexity.evaluate_text(model, model.tokenizer.encode(text), 10, 5)
  assert found['loss'] == pytest.approx(want['loss'], rel=1e-5)
  assert found['checkpoint'] == 'step-00000000'
  lines = (run / 'evaluations.jsonl').read_text().splitlines()
  assert [json.loads(line) for line in lines] == [found]
  refused = evaluate(stride=21, **flags)
  assert refused.returncode == 2
  assert 'stride=21: it must lie in [1, 20]' in refused.stderr
  assert len((run / 'evaluations.jsonl').read_text().splitlines()) == 1


def test_a_run_is_measured_as_it_measured_itself(tmp_path, capsys):
  path = tmp_path / 'run'
  with helpers.open_tiny_run(
    path, eval_stride=1, eval_batches=0, val_fraction=0.3
  ) as run:
    run.train()
  metrics = read_metrics(path / 'metrics.jsonl')
  best = min(m['val_loss'] for m in metrics if 'val_loss' in m)

  def evaluate_here(*argv):
    argv = [f'--workdir={path}', '--json', *argv]
    assert helpers.run_here('evaluate', *argv) == 0
    return json.loads(capsys.readouterr().out)

  assert evaluate_here()['loss'] == pytest.approx(best)
  plot = tmp_path / 'plot.svg'
  assert evaluate_here('--window=4', f'--plot={plot}')['stride'] == 1
  assert '<svg' in plot.read_text()
  apart = evaluate_here('--stride=0')
  assert (apart['window'], apart['stride']) == (8, 8)
  assert apart['loss'] != pytest.approx(best, rel=1e-3)


@pytest.mark.parametrize(
  ('plot', 'code', 'said'),
  [
    ('plot.jpg', 2, 'plot.jpg: it must end in .png, .svg, .pdf'),
    ('missing/plot.svg', 1, 'plot.svg could not be written (No such file'),
  ],
)
def test_a_picture_that_cannot_be_is_refused_before_the_work(
  tmp_path, capsys, plot, code, said
):
  argv = [f'--workdir={tmp_path}/none', f'--plot={tmp_path}/{plot}']
  assert helpers.run_here('evaluate', *argv) == code
  [line] = capsys.readouterr().err.splitlines()
  assert said in line


def test_tokens_of_another_vocabulary_are_refused(tmp_path, model, capsys):
  """Even if the vocabulary has the same kind and size."""
  workdir.write(tmp_path / 'run', *model[:3])
  tokens = tmp_path / 'tokens'
  tokens.mkdir()
  other = tokenizers.build('word', 'a b c d e f g h i')
  assert other.vocab_size == model.tokenizer.vocab_size
  (tmp_path / 'text.txt').write_text('a b c ' * 20)
  corpus.prepare([str(tmp_path / 'text.txt')], other, tokens, 1, 1 << 20)
  argv = [f'--workdir={tmp_path}/run', f'--dataset={tokens}']
  assert helpers.run_here('evaluate', *argv) == 1
  [line] = capsys.readouterr().err.splitlines()
  assert 'made with another vocabulary' in line
