"""The public API: train, load, generate and gpt from `import minigpt`."""

import subprocess
import sys

import helpers
import numpy as np
import pytest
import tensorflow as tf

import minigpt
from minigpt import tokenizers
from minigpt.checkpoints import huggingface
from minigpt.data import sources
from minigpt.errors import InputError, UsageError
from minigpt.model.params import init_params


@pytest.fixture(scope='module')
def trained(tmp_path_factory):
  """A run of the preset mini, whose model repeats its text."""
  path = tmp_path_factory.mktemp('runs') / 'mini'
  return minigpt.train(
    dataset='sample', preset='mini', workdir=str(path), quiet=True
  )


@pytest.fixture(scope='module')
def model(trained):
  return minigpt.load(trained.path)


def test_importing_imports_nothing_and_changes_nothing():
  code = """
import os, sys
before = set(sys.modules), dict(os.environ)
import minigpt
new = {name.split('.')[0] for name in set(sys.modules) - before[0]}
assert not new & {'tensorflow', 'numpy', 'absl'}, new
assert dict(os.environ) == before[1]
assert {'GPT', 'gpt', 'load', 'train'} <= set(dir(minigpt))
"""
  command = [sys.executable, '-c', code]
  done = subprocess.run(
    command, cwd=helpers.ROOT, capture_output=True, text=True
  )
  assert done.returncode == 0, done.stderr


@pytest.mark.parametrize('name', minigpt._HOME)
def test_every_public_name_is_there(name):
  assert getattr(minigpt, name).__doc__


def test_other_names_are_not():
  with pytest.raises(AttributeError, match="no attribute 'trian'"):
    _ = minigpt.trian


def test_a_run_is_trained_to_its_last_step(trained):
  assert trained.step == 170
  assert trained.path.name == 'mini'


def test_a_finished_run_stays_as_it_is(trained, capsys):
  again = minigpt.train(trained.path)
  assert again.step == 170
  assert f'continuing {trained.path} after step 170' in capsys.readouterr().out
  with pytest.raises(UsageError, match='holds a run'):
    minigpt.train(trained.path, resume=False, quiet=True)
  with pytest.raises(UsageError, match='emb_dim=32 contradicts'):
    minigpt.train(trained.path, emb_dim=32, quiet=True)


def test_a_loaded_model_generates_what_it_has_learned(model):
  text = model.generate('the ', max_new_tokens=36, temperature=0)
  assert 'the ' + text in sources.SAMPLE
  assert len(text) == 36


def test_several_prompts_are_answered_each(model):
  options = dict(max_new_tokens=9, temperature=0)
  texts = model.generate(['the ', 'the sun '], **options)
  assert texts[0] == model.generate('the ', **options)
  assert texts[1] == model.generate('the sun ', **options)
  assert model.generate([]) == []


def test_a_seed_decides_what_is_sampled(model):
  options = dict(max_new_tokens=20, temperature=2.0)
  first, other = (model.generate('the', seed=s, **options) for s in (1, 2))
  assert first == model.generate('the', seed=1, **options)
  assert first != other


def test_wrong_requests_are_one_line(trained, model, tmp_path):
  with pytest.raises(UsageError, match="did you mean 'temperature'"):
    model.generate('the', temprature=1)
  with pytest.raises(UsageError, match='top_p=2'):
    model.generate('the', top_p=2)
  with pytest.raises(InputError, match='Q'):
    model.generate('Q')
  with pytest.raises(InputError, match='is not a directory'):
    minigpt.load(tmp_path / 'none')
  with pytest.raises(UsageError, match="unknown weights 'int4'"):
    minigpt.load(trained.path, weights='int4')


def test_int8_weights_generate_the_same_text(trained, model):
  small = minigpt.load(trained.path, weights='int8')
  options = dict(max_new_tokens=20, temperature=0)
  assert small.generate('the ', **options) == model.generate('the ', **options)


def test_the_functions_take_what_was_loaded(model):
  """The most likely next character is that of greedy decoding."""
  tokens = model.tokenizer.encode('the ')[None]
  logits = minigpt.gpt(tokens, model.params, model.config)
  best = model.tokenizer.decode([int(np.argmax(logits[0, -1]))])
  assert best == model.generate('the ', max_new_tokens=1, temperature=0)


def test_a_published_model_is_loaded_with_its_tokenizer(tmp_path):
  letters = tokenizers.build('char', 'abcde ')
  config = minigpt.GPTConfig(letters.vocab_size, 8, 4, 2, 1, qkv_bias=True)
  huggingface.write(tmp_path / 'gpt2', config, init_params(config), letters)
  loaded = minigpt.load(tmp_path / 'gpt2')
  leaves = tf.nest.flatten(loaded.params)
  assert all(isinstance(leaf, tf.Variable) for leaf in leaves)
  text = loaded.generate('ab', max_new_tokens=3, seed=1)
  assert len(text) == 3 and set(text) <= set('abcde ')


def test_a_signal_ends_training_and_the_step_is_saved(tmp_path):
  code = f"""
import os, signal
import minigpt
from minigpt.training import trainer

def interrupt(run, records):
  os.kill(os.getpid(), signal.SIGINT)

original = trainer.Trainer.train
trainer.Trainer.train = lambda self: original(self, interrupt)
options = dict(preset='mini', dataset='sample', steps=2000, steps_per_call=5)
try:
  minigpt.train({str(tmp_path / 'run')!r}, quiet=True, **options)
except KeyboardInterrupt as stopped:
  print(stopped)
"""
  done = helpers.run('-c', code)
  assert done.returncode == 0, done.stderr
  assert done.stdout.startswith('SIGINT at step ')
  assert list((tmp_path / 'run' / 'checkpoints').iterdir())
