"""Fixtures that many tests share, and the order of the tests.

Fixtures import TensorFlow themselves: pytest's controlling process also reads
this file, and does not need it.
"""

import gc
import os
import signal

os.environ.setdefault('TF_CPP_MIN_LOG_LEVEL', '2')
if 'MINIGPT_TEST_HLO' not in os.environ:  # See tests/hlo/conftest.py.
  # The tests compile much and run little, so compile faster code less. Without
  # XLA's fusion emitters, LLVM takes a seventh less time.
  os.environ.setdefault(
    'XLA_FLAGS',
    '--xla_backend_optimization_level=0 '
    '--xla_llvm_disable_expensive_passes=true '
    '--xla_cpu_use_fusion_emitters=false',
  )

import pytest

from minigpt.config import GPTConfig

# The order of test files. Those of a row run in one process, to share the
# session's fixtures. The longest come first, so that all processes end at about
# the same time.
_FIRST = [
  ('docs',),
  (
    'serving/client',
    'serving/documented_clients',
    'serving/chunks',
    'http_server/openai_client',
    'http_server/app',
    'http_server/scheduler',
    'serving/greedy_c',
    'conformance/signature_checks',
    'conformance/input_checks',
    'conformance/generation_checks',
    'conformance/parity_checks',
    'conformance/report',
    'conformance/serving_session',
    'conformance/isolated_process',
  ),
  ('training/reliability',),
  ('training/trainer',),
  ('training/distribution',),
  ('kernels/conformance',),
  ('serving/stablehlo',),
  ('notebooks',),
  ('hlo',),
  ('serving/versions',),
  ('serving/export',),
  ('commands/export',),
  ('training/run_setup',),
  ('serving/signatures',),
  ('training/stability',),
  ('generation/beam_search',),
  ('training/step',),
  ('model/lora',),
  ('checkpoints/huggingface',),
  ('generation/decode',),
  ('fuzz',),
  ('commands/train',),
  ('lesson',),
  ('commands/generate',),
  ('generation/generator',),
  ('kernels/block',),
  ('tokenizers/in_graph_base',),
  ('commands/bench',),
  ('compiler/remat',),
  ('wheel',),
  ('site',),
  ('api',),
  ('commands/evaluate',),
  ('data/corpus', 'data/token_shards', 'data/shard_writer'),
]


def _name(nodeid):
  """Returns 'commands/train' for tests in tests/commands/test_train.py."""
  path = nodeid.partition('::')[0].removeprefix('tests/').removesuffix('.py')
  return path.replace('test_', '')


def _rank(item):
  """Returns the place of the item's row in `_FIRST`, and of its file in it."""
  name = _name(item.nodeid)
  for i, group in enumerate(_FIRST):
    if name in group:
      return i, group.index(name)
  return len(_FIRST), 0


def pytest_configure():
  """Restores signals that a shell makes its background jobs ignore.

  Programs that tests start and interrupt would inherit the ignored signals.
  """
  for number, handler in (
    (signal.SIGINT, signal.default_int_handler),
    (signal.SIGQUIT, signal.SIG_DFL),
  ):
    if signal.getsignal(number) is signal.SIG_IGN:
      signal.signal(number, handler)


def pytest_collection(session):
  """Exempts imports from garbage collection, as `startup` does for commands."""
  gc.disable()


def pytest_collection_modifyitems(items):
  items.sort(key=_rank)


def pytest_collection_finish(session):
  gc.freeze()
  gc.enable()


def pytest_sessionfinish(session):
  """Exempts all objects, as pytest would collect garbage five times."""
  gc.freeze()


def pytest_xdist_make_scheduler(config, log):
  from xdist.scheduler import LoadFileScheduling

  class Scheduling(LoadFileScheduling):
    def __init__(self, config, log):
      # Keep the order above; xdist would sort by the number of tests.
      config.option.loadscopereorder = False
      super().__init__(config, log)

    def _split_scope(self, nodeid):
      file = super()._split_scope(nodeid)
      name = _name(file)
      return next((group[0] for group in _FIRST if name in group), file)

  return Scheduling(config, log)


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
  """A random model, shared by the session: tests must not train it."""
  from minigpt.model.transformer import GPT

  return GPT(config, seed=3)


@pytest.fixture(scope='session')
def tokens(config):
  import tensorflow as tf

  return tf.random.stateless_uniform(
    [3, config.context_length], [1, 2], 0, config.vocab_size, tf.int32
  )


@pytest.fixture
def nothing_is_kept(monkeypatch):
  """Makes small models rematerialize as large models do."""
  from minigpt.compiler import remat

  monkeypatch.setattr(remat, 'FREE_BYTES', 0)


@pytest.fixture(scope='session')
def run_dir(model, tmp_path_factory):
  """A run of the random model; its vocabulary has NUL and non-ASCII."""
  from minigpt.checkpoints import workdir
  from minigpt.tokenizers.char import CharTokenizer

  # TensorFlow's readers take this name for a glob pattern.
  path = tmp_path_factory.mktemp('runs') / 's[1]'
  tokenizer = CharTokenizer('\0\n abcdefghijkl\u00df\u0301')
  workdir.write(path, model.config, model.params, tokenizer)
  return path


@pytest.fixture(scope='session')
def export_dir(run_dir, tmp_path_factory):
  """The export of `run_dir`; tests must copy it before they change it."""
  from minigpt.checkpoints import loading
  from minigpt.serving import export
  from minigpt.serving.options import Options

  pytest.importorskip('tensorflow_serving', reason='no tensorflow-serving-api')
  options = Options(max_new_tokens_limit=9, batch_sizes=(1, 2))
  base = tmp_path_factory.mktemp('models') / 'shakespeare'
  return export.export(loading.load_trained(run_dir), base, options).path


@pytest.fixture(scope='session')
def session(export_dir):
  """The export, loaded as an unmodified TensorFlow Serving does."""
  from minigpt.conformance.serving_session import ServingSession

  return ServingSession(export_dir)


@pytest.fixture(scope='session')
def gpt2_tokenizer():
  from minigpt import tokenizers
  from minigpt.errors import InputError

  try:
    return tokenizers.build('gpt2', '')
  except InputError as error:
    pytest.skip(str(error))
