"""Loading models of all formats."""

import json
import os
import pathlib
import shutil

import numpy as np
import pytest
import tensorflow as tf

from minigpt import tokenizers
from minigpt.checkpoints import checkpoint, huggingface, loading, workdir
from minigpt.config import GPTConfig
from minigpt.errors import InputError
from minigpt.model import params

safetensors = pytest.importorskip('safetensors.numpy')

ROOT = pathlib.Path(__file__).parents[2]
GOLDEN = ROOT / 'tests' / 'golden' / 'gpt2-wide'


@pytest.fixture(scope='module')
def char61():
  return tokenizers.build('char', ''.join(map(chr, range(40, 101))))


def test_a_run_is_loaded_as_it_was_saved(tmp_path, char61):
  config = GPTConfig(
    vocab_size=61,
    context_length=8,
    emb_dim=6,
    n_heads=2,
    n_layers=2,
    bias=False,
    tie_embeddings=False,
    vocab_padding=3,
  )
  weights = params.init_params(config, seed=7)
  workdir.write(tmp_path / 'run', config, weights, char61)
  found = loading.load(tmp_path / 'run')
  assert found.config == config
  assert found.tokenizer.to_json() == char61.to_json()
  leaves = params.named_leaves(found.weights)
  for name, leaf in params.named_leaves(weights).items():
    np.testing.assert_array_equal(leaves[name], leaf, name)
  assert [p.name for p in tmp_path.iterdir()] == ['run']


def test_runs_are_not_written_over(tmp_path, char61):
  config, weights = huggingface.read(GOLDEN)
  with pytest.raises(InputError, match='exists already'):
    workdir.write(tmp_path, config, weights, char61)
  assert not list(tmp_path.iterdir())


def test_a_tokenizer_of_another_size_is_refused(tmp_path):
  tokenizer = tokenizers.build('char', 'abc')
  with pytest.raises(InputError, match='61 tokens, the char tokenizer 3'):
    loading.load(GOLDEN, tokenizer)


def test_a_vocabulary_that_is_not_gpt2_needs_a_tokenizer():
  with pytest.raises(InputError, match='61 tokens are not those of GPT-2'):
    loading.load(GOLDEN)


@pytest.mark.parametrize(
  ('make', 'message'),
  [
    (lambda path: None, 'is not a directory'),
    (lambda path: path.write_text(''), 'is not a directory'),
    (lambda path: path.mkdir(), 'holds no model'),
  ],
)
def test_paths_without_a_model(tmp_path, make, message):
  make(tmp_path / 'model')
  with pytest.raises(InputError, match=message):
    loading.load(tmp_path / 'model')


@pytest.fixture(scope='module')
def gpt2_sized(tmp_path_factory):
  """A tiny model with GPT-2's vocabulary size."""
  if 'TIKTOKEN_CACHE_DIR' not in os.environ:
    pytest.skip('TIKTOKEN_CACHE_DIR is not set')
  config = GPTConfig(context_length=4, emb_dim=2, n_heads=1, n_layers=1)
  path = tmp_path_factory.mktemp('gpt2') / 'model'
  gpt2 = tokenizers.build('gpt2', '')
  huggingface.write(path, config, params.init_params(config), gpt2)
  (path / huggingface.TOKENIZER).unlink()
  return path


def test_gpt2s_vocabulary_comes_with_gpt2s_tokenizer(gpt2_sized):
  described = json.loads((gpt2_sized / 'config.json').read_text())
  assert described['eos_token_id'] == 50256
  assert loading.load(gpt2_sized).tokenizer.name == 'gpt2'


def test_gpt2s_tokenizer_is_written_as_openai_published_it(gpt2_sized):
  found = json.loads((gpt2_sized / 'vocab.json').read_text('utf-8'))
  assert found == _published_vocabulary()
  merges = (gpt2_sized / 'merges.txt').read_bytes()
  assert merges == _download(b'#version: 0.2')


def test_only_gpt2s_own_words_are_taken_for_gpt2s(gpt2_sized, tmp_path):
  path = pathlib.Path(shutil.copytree(gpt2_sized, tmp_path / 'model'))
  words = _published_vocabulary()
  (path / 'vocab.json').write_text(json.dumps(words))
  assert loading.load(path).tokenizer.name == 'gpt2'
  words['Ġthe'], words['Ġof'] = words['Ġof'], words['Ġthe']
  (path / 'vocab.json').write_text(json.dumps(words))
  with pytest.raises(InputError, match='not those of GPT-2'):
    loading.load(path)


def _published_vocabulary():
  return json.loads(_download(b'{"!": 0'))


def _download(beginning):
  """Returns OpenAI's file with this beginning, from tiktoken's cache."""
  for file in pathlib.Path(os.environ['TIKTOKEN_CACHE_DIR']).iterdir():
    if file.read_bytes().startswith(beginning):
      return file.read_bytes()
  pytest.skip(f'TIKTOKEN_CACHE_DIR holds no file that begins {beginning}')


def test_a_published_model_is_no_run(tmp_path):
  with pytest.raises(InputError, match='format, not a run'):
    loading.load_trained(GOLDEN)
  assert loading.detect_format(GOLDEN) is loading.Format.HUGGINGFACE
  (tmp_path / 'hparams.json').touch()
  assert loading.detect_format(tmp_path) is loading.Format.OPENAI


def test_a_damaged_best_checkpoint_gives_way_to_the_next_best(
  tmp_path, char61, capsys
):
  config = GPTConfig(61, 8, 6, 2, 1)
  weights = params.init_params(config, seed=7)
  path = tmp_path / 'run'
  workdir.write(path, config, weights, char61)
  folder = workdir.checkpoints(path)
  for step, loss in ((5, 1.0), (6, 2.0), (7, 3.0)):
    state = tf.train.Checkpoint(params=weights)
    checkpoint.save(folder, step, state, {'val_loss': loss})
  assert loading.load_trained(path).checkpoint.step == 5
  data = folder / 'step-00000005' / 'state.data-00000-of-00001'
  data.write_bytes(data.read_bytes()[:-9] + bytes(9))
  (folder / 'step-00000006' / 'info.json').write_text('{}')
  assert loading.load(path).trained.checkpoint.step == 7
  first, second = capsys.readouterr().err.splitlines()
  assert 'step-00000006 is damaged (info.json: its checksum' in first
  assert 'step-00000005 is damaged' in second and 'the next best' in second
  for file in folder.glob('*/state.index'):
    file.write_bytes(b'')
  with pytest.raises(InputError, match='no checkpoint of'):
    loading.load_trained(path)


@pytest.mark.parametrize(
  'sizes',
  [
    {'context_length': 2**31 - 1},
    {'vocab_padding': 2**31 - 1},
    {'mlp_ratio': 2**31 - 1},
    {'n_layers': 2**31 - 1},
    {'emb_dim': 2**30},
    {'emb_dim': 6.0},
  ],
  ids=str,
)
@pytest.mark.parametrize('rank', [0, 2])
def test_sizes_beyond_the_checkpoint_take_no_memory(
  tmp_path, char61, sizes, rank
):
  path, start = tmp_path / 'run', tmp_path / 'start'
  config = GPTConfig(61, 8, 6, 2, 1)
  for folder in (path, start):
    workdir.write(folder, config, params.init_params(config), char61)
  file = path / 'config.json'
  fields = json.loads(file.read_text())
  fields['model'] |= sizes
  fields['train'] |= {'lora_rank': rank, 'init_from': str(start)}
  file.write_text(json.dumps(fields))
  message = 'larger than|no longer the model|must be an integer'
  with pytest.raises(InputError, match=message):
    loading.load_trained(path)


def test_adapters_beyond_the_checkpoint_take_no_memory(tmp_path, char61):
  path = tmp_path / 'run'
  config = GPTConfig(61, 8, 6, 2, 1)
  workdir.write(path, config, params.init_params(config), char61)
  fields = json.loads((path / 'config.json').read_text())
  fields['train'] |= {'lora_rank': 2**31 - 1, 'init_from': str(path)}
  (path / 'config.json').write_text(json.dumps(fields))
  with pytest.raises(InputError, match='larger than'):
    loading.load_trained(path)
