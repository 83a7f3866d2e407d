"""Runs that begin, continue, and start from another model's weights."""

import dataclasses
import json
import os
import shutil

import helpers
import numpy as np
import pytest

from minigpt import tokenizers
from minigpt.checkpoints import loading, workdir
from minigpt.config import (
  DataConfig,
  GPTConfig,
  TrainConfig,
  preset_values,
  resolve,
)
from minigpt.data import corpus, token_cache
from minigpt.errors import InputError, UsageError
from minigpt.model import params
from minigpt.model.transformer import gpt
from minigpt.tokenizers.word import END_OF_TEXT, UNKNOWN, WordTokenizer
from minigpt.training import run_setup
from minigpt.training.metrics import say_nothing

TEXT = 'abcdefgh ' * 30
GRAPH = {'compile': 'graph'}  # The fastest mode for so few steps.
CONFIG = GPTConfig(
  vocab_size=9,
  context_length=12,
  emb_dim=8,
  n_heads=2,
  n_layers=2,
  drop_rate=0.0,
)


@pytest.fixture(scope='module')
def source(tmp_path_factory):
  """A model as `minigpt convert` writes it, and its weights."""
  path = tmp_path_factory.mktemp('source') / 'model'
  weights = params.init_params(CONFIG, seed=3)
  workdir.write(path, CONFIG, weights, tokenizers.build('char', TEXT))
  return path, weights


@pytest.fixture(scope='module')
def text(tmp_path_factory):
  path = tmp_path_factory.mktemp('text') / 'text.txt'
  path.write_text(TEXT)
  return path


def train(**flags):
  flags = [f'--{name}={value}' for name, value in (GRAPH | flags).items()]
  return helpers.run('train.py', *flags)


def open_finetuning(path, source, text, **overrides):
  given = {'init_from': str(source), 'dataset': str(text)}
  return run_setup.open_run(
    path, {**given, **GRAPH, **overrides}, say=say_nothing
  )


def test_a_run_starts_from_the_weights_with_a_shorter_context(
  tmp_path, source, text
):
  path, weights = source
  changes = dict(context_length=7, drop_rate=0.5)
  with open_finetuning(tmp_path, path, text, **changes) as run:
    assert run.config.model == dataclasses.replace(CONFIG, **changes)
  tokens = np.arange(7)[None]
  np.testing.assert_array_equal(
    gpt(tokens, run.model.params, run.config.model),
    gpt(tokens, weights, CONFIG),
  )


def test_weights_that_were_read_already_are_not_read_again(
  tmp_path, source, text, monkeypatch
):
  path, weights = source
  # `load` does not need it.
  monkeypatch.setattr(loading, 'load_weights', None)
  with open_finetuning(tmp_path, path, text) as run:
    np.testing.assert_array_equal(run.model.params.wte, weights.wte)


@pytest.mark.parametrize(
  ('given', 'message'),
  [
    ({'context_length': 13}, '--context_length=13: .* has 12'),
    ({'n_layers': 3}, '--n_layers=3: .* has 2'),
    ({'tokenizer': 'gpt2'}, '--tokenizer=gpt2: .* comes with char'),
  ],
)
def test_what_contradicts_the_model_is_refused(source, given, message):
  with pytest.raises(UsageError, match=message):
    run_setup.start_values(loading.load(source[0]), given)


def test_another_model_in_the_same_place_is_refused(source):
  other = workdir.RunConfig(
    dataclasses.replace(CONFIG, n_heads=4),
    DataConfig(),
    TrainConfig(init_from=str(source[0])),
  )
  with pytest.raises(InputError, match='no longer the model'):
    loading.load_start(other)


def test_the_program_trains_on_and_continues_without_its_source(
  tmp_path, source, text
):
  moved = tmp_path / 'moved'
  os.rename(source[0], moved)
  flags = dict(workdir=tmp_path / 'run', dataset=text, eval_batches=1)
  first = train(init_from=moved, steps=2, learning_rate=1e-3, **flags)
  assert first.returncode == 0, first.stderr
  os.rename(moved, source[0])
  again = train(steps=3, **flags)
  assert again.returncode == 0, again.stderr
  assert 'after step 2' in again.stdout
  trained = loading.load_trained(tmp_path / 'run')
  assert trained.run.model == CONFIG
  drift = np.abs(trained.model.params.wte - source[1].wte).max()
  assert 0 < drift < 0.01  # A random start would differ by 0.08.


def test_a_converted_model_is_no_run_to_continue(source):
  result = train(workdir=source[0], dataset='sample')
  assert result.returncode == 2
  line = result.stderr.strip().splitlines()[-1]
  assert f'give --init_from={source[0]} and another --workdir' in line


def test_epochs_set_the_steps():
  settings = resolve(preset_values('mini', {'epochs': 2.0}))
  recipe = run_setup.prepare(settings).config.train
  assert recipe.steps == 34  # (82 - 48) windows, two a step, twice
  with pytest.raises(UsageError, match='steps and epochs'):
    preset_values('mini', {'epochs': 2.0, 'steps': 3})


def test_flags_that_contradict_the_saved_run_are_refused(source):
  saved = workdir.load_config(source[0])
  workdir.check_same_run(source[0], saved, {'emb_dim': 8, 'steps': 99})
  with pytest.raises(UsageError, match=r'--emb_dim=32 contradicts .* 8'):
    workdir.check_same_run(source[0], saved, {'emb_dim': 32})


def test_steps_win_over_the_epochs_of_a_run_that_continues(tmp_path):
  """The preset `mini` gives its length in epochs."""
  path = tmp_path / 'run'
  tiny = dict(emb_dim=8, **GRAPH)
  with run_setup.open_run(path, tiny, preset='mini', say=say_nothing) as run:
    assert run.recipe.steps == 170
  for preset, overrides, steps in (
    (None, {'steps': 5}, 5),
    ('mini', {**tiny, 'steps': 6}, 6),
    (None, {'epochs': 2.0}, 34),
    (None, {'steps': 7}, 7),
    (None, {}, 7),
  ):
    with run_setup.open_run(
      path, overrides, preset=preset, say=say_nothing
    ) as run:
      assert run.recipe.steps == steps
  with pytest.raises(UsageError, match='give only one'):
    run_setup.open_run(path, {'steps': 5, 'epochs': 1.0}, say=say_nothing)


def test_evaluation_may_not_leave_text_out():
  values = preset_values('mini', {'eval_stride': 49})
  with pytest.raises(UsageError, match='eval_stride=49: windows of 48'):
    run_setup.prepare(resolve(values))


def prepared_tokens(folder, tokenizer):
  """A token directory of TEXT."""
  folder.mkdir()
  (folder.parent / 'tokens.txt').write_text(TEXT)
  paths = [str(folder.parent / 'tokens.txt')]
  corpus.prepare(paths, tokenizer, folder, 1, 1 << 20)
  return folder


def test_tokens_of_another_vocabulary_are_refused(tmp_path):
  """Even of the same kind and size, with the words in another order."""
  special = [UNKNOWN, END_OF_TEXT]
  ours = WordTokenizer(['abcdefgh', ' ', 'a', *special])
  others = WordTokenizer([' ', 'abcdefgh', 'a', *special])
  config = dataclasses.replace(CONFIG, vocab_size=5)
  weights = params.init_params(config, seed=3)
  workdir.write(tmp_path / 'model', config, weights, ours)
  right = prepared_tokens(tmp_path / 'right', ours)
  wrong = prepared_tokens(tmp_path / 'wrong', others)
  start = {'init_from': str(tmp_path / 'model'), **GRAPH}
  setup = run_setup.new_setup({**start, 'dataset': str(right)}, None)
  assert setup.data.train.n_tokens > 30
  with pytest.raises(InputError, match='made with another vocabulary'):
    run_setup.new_setup({**start, 'dataset': str(wrong)}, None)


def test_text_that_moved_is_known_again(tmp_path):
  before, after = tmp_path / 'a.txt', tmp_path / 'b.txt'
  before.write_text(TEXT)
  path = tmp_path / 'run'
  tiny = dict(
    emb_dim=8, context_length=8, n_heads=2, n_layers=1, steps=2, **GRAPH
  )
  options = dict(dataset=str(before), **tiny)
  with run_setup.open_run(path, options, say=say_nothing) as run:
    run.train()
  before.rename(after)
  with run_setup.open_run(
    path, {'dataset': str(after)}, say=say_nothing
  ) as run:
    assert run.step == 2
  with run_setup.open_run(path, say=say_nothing) as run:
    assert run.config.data.dataset == str(after)


@pytest.mark.parametrize(
  ('change', 'now'),
  [
    (lambda text: text.replace('a', 'b'), 'it has 270 tokens now, with check'),
    (lambda text: text[:-9], 'it has 261 tokens now'),
    (lambda text: text[:9], 'it has 9 tokens now'),
    (lambda text: f'{text}\u00e9', "character '\u00e9'"),
  ],
  ids=['other', 'shorter', 'too short', 'a new character'],
)
def test_text_that_changed_is_told_by_its_counts_first(tmp_path, change, now):
  text = tmp_path / 'a.txt'
  text.write_text(TEXT)
  path = tmp_path / 'run'
  tiny = dict(emb_dim=8, context_length=8, n_heads=2, n_layers=1, **GRAPH)
  options = dict(dataset=str(text), **tiny)
  with run_setup.open_run(path, options, say=say_nothing):
    pass
  text.write_text(change(TEXT))
  with pytest.raises(InputError) as caught:
    run_setup.open_run(path, say=say_nothing)
  message = str(caught.value)
  assert message.startswith(f'the text has changed since {path} was begun; it')
  assert message.index('it had 270 tokens with checksum') < message.index(now)
  saved = json.loads((path / 'config.json').read_text())
  assert saved['fingerprint']['n_tokens'] == 270


def test_a_data_set_that_nothing_proves_may_not_change(tmp_path):
  run = workdir.RunConfig(CONFIG, DataConfig(), TrainConfig())
  workdir.create(tmp_path, run, tokenizers.build('char', TEXT))
  with pytest.raises(UsageError, match=r'--dataset=b\.txt contradicts'):
    workdir.check_same_run(tmp_path, run, {'dataset': 'b.txt'})


def test_a_start_that_moved_is_known_again(tmp_path, source, text):
  path = tmp_path / 'run'
  moved, other = tmp_path / 'moved', tmp_path / 'other'
  shutil.copytree(source[0], moved)
  weights = params.init_params(CONFIG, seed=4)
  workdir.write(other, CONFIG, weights, tokenizers.build('char', TEXT))
  changes = dict(lora_rank=2, steps=2, eval_batches=1)
  with open_finetuning(path, source[0], text, **changes) as run:
    # Without a checkpoint, no checksum proves that it is the same.
    config = run.config
    with pytest.raises(UsageError, match=r'--init_from=.* contradicts'):
      workdir.check_same_run(path, config, {'init_from': str(moved)})
    run.train()
  for start in (other, tmp_path):
    with pytest.raises(InputError):
      run_setup.open_run(path, {'init_from': str(start)}, say=say_nothing)
    assert workdir.load_config(path) == config
  with pytest.raises(UsageError, match='--init_from= contradicts'):
    run_setup.open_run(path, {'init_from': ''}, say=say_nothing)
  with run_setup.open_run(
    path, {'init_from': str(moved), 'steps': 3}, say=say_nothing
  ) as run:
    run.train()
  assert workdir.load_config(path).train.init_from == str(moved)


def test_a_run_on_a_large_text_goes_on_with_the_tokens_in_its_folder(
  tmp_path, monkeypatch
):
  text = tmp_path / 'text.txt'
  text.write_text(TEXT)
  path = tmp_path / 'run'
  given = dict(dataset=str(text), tokenizer='char', context_length=4, **GRAPH)
  # Begun in memory, as earlier versions did.
  with helpers.open_tiny_run(path, **given) as run:
    whole = run.data
  assert not workdir.tokens(path).exists()
  monkeypatch.setattr(token_cache, '_MOST_IN_MEMORY', 0)
  (path / '.tmp-tokens-1').mkdir()  # Left by a start that was killed.
  for _ in range(2):
    with helpers.open_tiny_run(path, **given) as run:
      assert run.data.fingerprint == whole.fingerprint
      np.testing.assert_array_equal(run.data.val[:], whole.val)
    assert len(list(workdir.tokens(path).iterdir())) == 3
  assert not list(path.glob('.tmp-*'))
  text.write_text(TEXT.replace('h', 'a'))
  with pytest.raises(InputError, match='the text has changed since'):
    helpers.open_tiny_run(path, **given)


def test_a_new_run_that_is_refused_leaves_no_tokens(tmp_path, monkeypatch):
  monkeypatch.setattr(token_cache, '_MOST_IN_MEMORY', 0)
  text, path = tmp_path / 'text.txt', tmp_path / 'run'
  text.write_text(TEXT)
  given = dict(dataset=str(text), tokenizer='char', context_length=4, **GRAPH)
  refused = {**given, 'context_length': 10**6}
  with pytest.raises(UsageError, match='fewer than'):
    helpers.open_tiny_run(path, **refused)
  assert not path.exists()
  # Other content under that name is not deleted.
  path.mkdir()
  (path / 'tokens').mkdir()
  (path / 'tokens' / 'manifest.txt').write_text('x')
  with pytest.raises(InputError, match=r'holds manifest\.txt; move it'):
    helpers.open_tiny_run(path, **given)
  (path / 'tokens' / 'manifest.txt').rename(path / 'tokens' / '.tmp-a-1')
  helpers.open_tiny_run(path, **given).__exit__(None, None, None)
  assert len(list(workdir.tokens(path).iterdir())) == 3
