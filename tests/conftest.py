"""What several tests share: small models, and the real data's absence."""

import os

os.environ.setdefault('TF_CPP_MIN_LOG_LEVEL', '2')
# The tests compile much and run little.
os.environ.setdefault('XLA_FLAGS', '--xla_backend_optimization_level=1')

import pytest
import tensorflow as tf

from minigpt import exporting, workdir
from minigpt.config import GPTConfig
from minigpt.model import GPT
from minigpt.tokenizers.char import CharTokenizer


@pytest.fixture(scope='session')
def config():
  return GPTConfig(
    vocab_size=17,
    context_length=12,
    emb_dim=16,
    n_heads=2,
    n_layers=2,
    drop_rate=0.0,
    qkv_bias=True,
    init_std=0.2,
  )


@pytest.fixture(scope='session')
def model(config):
  """A random model; session-wide, so tests must not train it."""
  return GPT(config, seed=3)


@pytest.fixture(scope='session')
def tokens(config):
  return tf.random.stateless_uniform(
    [3, config.context_length], [1, 2], 0, config.vocab_size, tf.int32
  )


@pytest.fixture(scope='session')
def run_dir(model, tmp_path_factory):
  """A run of the random model; its vocabulary has NUL and two non-ASCII."""
  path = tmp_path_factory.mktemp('runs') / 's'
  tokenizer = CharTokenizer('\0\n abcdefghijkl\u00df\u0301')
  workdir.write(path, model.config, model.params, tokenizer)
  return path


@pytest.fixture(scope='session')
def export_dir(run_dir, tmp_path_factory):
  """That run as `export.py` publishes it; to be copied before it is changed."""
  pytest.importorskip('tensorflow_serving', reason='no tensorflow-serving-api')
  options = exporting.Options(max_new_tokens_limit=9, batch_sizes=(1, 2))
  base = tmp_path_factory.mktemp('models') / 'shakespeare'
  return exporting.export(workdir.load_trained(run_dir), base, options).path
