"""Reading OpenAI's checkpoints."""

import json
import pathlib

import numpy as np
import pytest
import tensorflow as tf
from weight_files import (
  assert_same_bytes,
  leaves,
  tensors_of,
  write,
)

from minigpt.checkpoints import huggingface, openai_gpt2
from minigpt.errors import InputError

safetensors = pytest.importorskip('safetensors.numpy')

GOLDEN = pathlib.Path(__file__).parents[1] / 'golden'


def truncate(file, n=1):
  file.write_bytes(file.read_bytes()[:-n])


def write_openai(path, config, weights, more=None):
  """Saves a graph whose variables are those of OpenAI's src/model.py.

  Args:
    more: other variables, by name.
  """
  path.mkdir()
  with tf.Graph().as_default(), tf.compat.v1.Session() as session:
    for leaf, value in leaves(weights).items():
      if leaf.endswith('.w'):
        value = value[None]
      tf.compat.v1.get_variable(openai_gpt2.name_of(leaf), initializer=value)
    for name, value in (more or {}).items():
      tf.compat.v1.get_variable(name, initializer=value)
    session.run(tf.compat.v1.global_variables_initializer())
    saver = tf.compat.v1.train.Saver()
    saver.save(session, str(path / 'model.ckpt'), write_meta_graph=False)
  hparams = dict(
    n_vocab=config.vocab_size,
    n_ctx=config.context_length,
    n_embd=config.emb_dim,
    n_head=config.n_heads,
    n_layer=config.n_layers,
  )
  (path / 'hparams.json').write_text(json.dumps(hparams))


@pytest.fixture
def checkpoint(tmp_path):
  # TensorFlow's reader takes this name for a glob pattern.
  path = tmp_path / 'openai[1]'
  write_openai(path, *huggingface.read(GOLDEN / 'gpt2-deep'))
  return path


def test_openai_names():
  assert (
    openai_gpt2.name_of('blocks.11.attn.c_attn.w') == 'model/h11/attn/c_attn/w'
  )
  assert openai_gpt2.name_of('ln_f.g') == 'model/ln_f/g'
  assert openai_gpt2.name_of('wte') == 'model/wte'


@pytest.mark.parametrize('index_file', [True, False])
def test_openai_checkpoint_is_the_same_model(checkpoint, index_file, tmp_path):
  if not index_file:
    (checkpoint / 'checkpoint').unlink()
  config, weights = openai_gpt2.read(checkpoint)
  wanted = huggingface.read(GOLDEN / 'gpt2-deep')
  assert config == wanted[0]
  assert_same_bytes(leaves(weights), leaves(wanted[1]))
  write(tmp_path / 'new', config, weights)
  assert_same_bytes(
    tensors_of(tmp_path / 'new'), tensors_of(GOLDEN / 'gpt2-deep')
  )


def test_what_training_kept_beside_the_weights_is_left_out(tmp_path):
  path, wanted = tmp_path / 'openai', huggingface.read(GOLDEN / 'gpt2-deep')
  kept = {
    'global_step': np.int64(7),
    'beta1_power': np.float32(0.9),
    'train/model/wte/Adam': np.ones(3, np.float32),
    'model/wte/Adam': np.ones(3, np.float32),
    'model/h0/attn/c_attn/w/Adam_1': np.ones(3, np.float32),
  }
  write_openai(path, *wanted, kept)
  config, weights = openai_gpt2.read(path)
  assert config == wanted[0]
  assert_same_bytes(leaves(weights), leaves(wanted[1]))


DATA = 'model.ckpt.data-00000-of-00001'


def flip(file):
  content = bytearray(file.read_bytes())
  content[len(content) // 2] ^= 1
  file.write_bytes(content)


@pytest.mark.parametrize(
  ('break_', 'message'),
  [
    (lambda p: (p / DATA).unlink(), 'its data holds 0'),
    (lambda p: truncate(p / DATA), 'lists 20,960 bytes, its data holds 20,959'),
    (lambda p: flip(p / DATA), 'cannot be read'),
    (lambda p: truncate(p / 'model.ckpt.index', 9), 'damaged checkpoint'),
    (lambda p: (p / 'model.ckpt.index').unlink(), '0 TensorFlow checkpoints'),
    (lambda p: (p / 'hparams.json').write_text('{"n_vocab": 40}'), 'n_ctx'),
  ],
)
def test_damaged_openai_checkpoints(checkpoint, break_, message):
  break_(checkpoint)
  with pytest.raises(InputError, match=message):
    openai_gpt2.read(checkpoint)


def test_an_openai_checkpoint_that_does_not_fit_its_hparams(checkpoint):
  hparams = json.loads((checkpoint / 'hparams.json').read_text())
  for field, message in (
    ({'n_ctx': 70}, r'model/wpe has shape \[68, 8\]'),
    ({'n_layer': 6}, 'lacks the tensor model/h5/attn/c_attn/b and 11 more'),
    ({'n_layer': 4}, 'does not have the tensor model/h4/attn/c_attn/b'),
    ({'n_layer': 10**9}, 'too few'),
  ):
    (checkpoint / 'hparams.json').write_text(json.dumps(hparams | field))
    with pytest.raises(InputError, match=message):
      openai_gpt2.read(checkpoint)


@pytest.mark.parametrize(
  'content', [b'', b'\xff\xfe\0', bytes(100), b'garbage', b'"', None]
)
def test_a_checkpoint_file_of_any_content_is_read_or_refused(
  checkpoint, content
):
  file = checkpoint / 'checkpoint'
  file.unlink()
  if content is None:
    file.mkdir()
  else:
    file.write_bytes(content)
  try:
    openai_gpt2.read(checkpoint)
  except InputError as error:
    assert 'checkpoint names no checkpoint' in str(error)
    assert '\n' not in str(error)
