"""Publishing: versions that are whole or not there, and what lies in them."""

import json
import sys
from pathlib import Path

import helpers
import pytest
import tensorflow as tf

from minigpt.checkpoints import workdir
from minigpt.checkpoints.loading import load_trained
from minigpt.errors import InputError, UsageError
from minigpt.serving import export as exporting
from minigpt.serving import server_config, versions
from minigpt.serving.export import Options, export, export_stablehlo
from minigpt.tokenizers.char import CharTokenizer
from minigpt.training.metrics import say_nothing
from minigpt.training.run_setup import open_run

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope='module')
def trained(tmp_path_factory):
  """A small model that has learned its text."""
  path = tmp_path_factory.mktemp('runs') / 'run'
  overrides = dict(steps=60, batch_size=8, steps_per_call=60, eval_every=0)
  with open_run(path, overrides, preset='mini', say=say_nothing) as run:
    run.train()
  assert run.history.best_loss < 1
  return load_trained(path)


@pytest.fixture(scope='module')
def int8(trained, tmp_path_factory):
  base = tmp_path_factory.mktemp('models') / 'sun'
  return export(trained, base, Options(weights='int8', batch_sizes=(1, 3)))


def test_int8_costs_next_to_nothing_and_is_stored_as_int8(int8):
  assert abs(int8.card['val_loss_change']) < 0.01
  assert int8.card['val_loss_change'] != 0
  assert int8.card['float32_val_loss'] < 1
  reader = tf.train.load_checkpoint(str(int8.path / 'variables/variables'))
  dtypes = reader.get_variable_to_dtype_map()
  stored = {}
  for name, shape in reader.get_variable_to_shape_map().items():
    stored[dtypes[name]] = stored.get(dtypes[name], 0) + int(
      tf.reduce_prod(shape)
    )
  assert stored[tf.int8] > 10 * stored[tf.float32]


def test_the_card_tells_what_was_exported(int8, trained):
  card = json.loads((int8.path / 'assets.extra' / 'model.json').read_text())
  assert card['name'] == 'sun'
  assert card['version'] == 1
  assert card['weights'] == 'int8'
  assert card['val_loss'] == trained.checkpoint.info['val_loss']
  assert card['model']['emb_dim'] == trained.run.model.emb_dim
  assert card['data']['dataset'] == 'sample'
  assert card['versions']['tensorflow'] == tf.__version__
  assert 'attention' not in card['signatures']
  assert card['signatures']['generate']['inputs']['seed'] == 'int64 [B]'
  outputs = card['signatures']['generate']['outputs']
  assert outputs['tokens'] == 'int32 [B, 256]'
  text = (int8.path / 'assets.extra' / 'MODEL_CARD.md').read_text()
  assert text.startswith('# sun, version 1\n')
  assert '`seed` int64 [B]' in text
  tokenizer = json.loads((int8.path / 'assets' / 'tokenizer.json').read_text())
  assert tokenizer['characters'] == trained.tokenizer.characters


def test_documented_signatures_are_those_of_the_graph(int8):
  """The table in docs/serving.md against the card, name for name."""
  card = json.loads((int8.path / 'assets.extra' / 'model.json').read_text())
  text = (ROOT / 'docs' / 'serving.md').read_text()
  rows = {
    line.split('|')[1].strip(' `'): line
    for line in text.splitlines()
    if line.startswith('| `')
  }
  assert set(card['signatures']) <= set(rows)
  for name, sides in card['signatures'].items():
    _, _, inputs, outputs, _ = rows[name].split('|')
    if name == 'generate_ids':  # Its row refers to that of `generate`.
      inputs, outputs = inputs + rows['generate'], rows['generate']
    for side, cell in (('inputs', inputs), ('outputs', outputs)):
      for key, kind in sides[side].items():
        assert f'`{key}` {kind.split()[0]}' in cell, (name, key)


def test_warm_up_has_one_request_for_each_batch_size(int8, trained):
  logs = pytest.importorskip('tensorflow_serving.apis.prediction_log_pb2')
  path = int8.path / 'assets.extra' / 'tf_serving_warmup_requests'
  generate = tf.saved_model.load(str(int8.path)).signatures['generate']
  sizes = []
  for record in tf.data.TFRecordDataset(str(path)):
    log = logs.PredictionLog.FromString(record.numpy())
    request = log.predict_log.request
    assert request.model_spec.name == 'sun'
    assert request.model_spec.signature_name == 'generate'
    inputs = {k: tf.make_ndarray(v) for k, v in request.inputs.items()}
    inputs = {k: tf.constant(v) for k, v in inputs.items()}
    answer = generate(**inputs)
    sizes.append(int(answer['num_tokens'].shape[0]))
  assert sizes == [1, 3]


def test_without_the_serving_protos_the_export_goes_on(monkeypatch, tmp_path):
  monkeypatch.setitem(sys.modules, 'tensorflow_serving.apis', None)
  with pytest.raises(InputError, match=r'minigpt\[serve\]'):
    exporting.warmup.write(tmp_path, 'sun', 'a', [1])
  assert not list(tmp_path.iterdir())


def test_serving_config_is_what_the_server_parses(tmp_path):
  configs = pytest.importorskip(
    'tensorflow_serving.config.model_server_config_pb2'
  )
  from google.protobuf import text_format

  command = server_config.write_serving_config(
    tmp_path, 'sun', [1, 2, 8], False
  )
  parsed = text_format.Parse(
    (tmp_path / 'models.config').read_text(), configs.ModelServerConfig()
  )
  (config,) = parsed.model_config_list.config
  assert (config.name, config.base_path) == ('sun', '/models/sun')
  batching = (tmp_path / 'batching.config').read_text().splitlines()
  allowed = [x.split()[1] for x in batching if x.startswith('allowed')]
  assert allowed == ['1', '2', '8']
  assert 'max_batch_size { value: 8 }' in batching
  assert f'source={tmp_path},target=/models/sun' in command
  assert 'xla' not in command
  assert '--xla_cpu_compilation_enabled=true' in server_config.docker_command(
    tmp_path, 'sun', True
  )
  assert versions.versions(tmp_path) == []


def content(folder, number):
  (folder / 'first').write_text(str(number))


def test_versions_count_up_and_are_never_changed(tmp_path):
  base = tmp_path / 'm'
  assert versions.publish(base, content).name == '1'
  assert versions.publish(base, content, version=7).name == '7'
  assert versions.publish(base, content).name == '8'
  with pytest.raises(InputError, match='7 is there already'):
    versions.publish(base, lambda *_: pytest.fail('written'), version=7)
  with pytest.raises(UsageError, match='version=0'):
    versions.publish(base, content, version=0)
  assert versions.versions(base) == [1, 7, 8]
  assert (base / '7' / 'first').read_text() == '7'


def test_pruning_leaves_the_newest_and_never_fewer_than_two(tmp_path):
  for _ in range(5):
    versions.publish(tmp_path, content)
  versions.publish(tmp_path, content, keep=3)
  assert versions.versions(tmp_path) == [4, 5, 6]
  for keep in (1, 0, -1):
    with pytest.raises(UsageError, match='keep_versions'):
      versions.publish(tmp_path, content, keep=keep)
  versions.prune(tmp_path, 1)
  assert versions.versions(tmp_path) == [5, 6]
  assert sorted(p.name for p in tmp_path.iterdir()) == ['5', '6']


def test_a_failure_leaves_nothing_behind(tmp_path):
  def fail(folder, number):
    content(folder, number)
    raise OSError(28, 'No space left on device')

  with pytest.raises(InputError, match='No space left'):
    versions.publish(tmp_path, fail)
  assert not list(tmp_path.iterdir())


PUBLISHER = """
import os, random, signal, sys, time
from pathlib import Path
from minigpt.serving import server_config, versions

base, seed = Path(sys.argv[1]), int(sys.argv[2])
random.seed(seed)

def write(folder, number):
  for i in range(5):
    (folder / f'part-{i}').write_bytes(b'x' * 1000)

started = time.monotonic()
versions.publish(base, write)
once = time.monotonic() - started
for n_killed in range(100):
  # On a busy machine most are killed before they have published anything.
  if n_killed >= 12 and versions.versions(base)[-1] >= 6:
    break
  child = os.fork()
  if child == 0:
    while True:
      versions.publish(base, write, keep=3)
  time.sleep(random.uniform(0, 3 * once))
  os.kill(child, signal.SIGKILL)
  os.waitpid(child, 0)
"""


def incomplete(base):
  """The versions in sight that are not whole, as a server would list them."""
  for version in versions.versions(base) if base.exists() else []:
    path = base / str(version)
    try:
      sizes = [part.stat().st_size for part in path.iterdir()]
    except FileNotFoundError:
      sizes = []
    if sizes != [1000] * 5 and path.exists():
      yield version


def test_a_poller_never_sees_part_of_a_version(tmp_path):
  base = tmp_path / 'm'
  publisher = helpers.start('-c', PUBLISHER, base, 0)
  seen = set()
  while publisher.is_alive():
    assert list(incomplete(base)) == []
    seen |= set(versions.versions(base))
  assert publisher.exitcode == 0
  assert versions.versions(base)[-1] >= 6
  assert len(seen) >= 3
  assert len(versions.versions(base)) >= 2
  # It was killed at work, and what it left is nothing a server looks at.
  assert any(path.name.startswith('.tmp-') for path in base.iterdir())


@pytest.mark.parametrize(
  'wrong, said',
  [
    ({'weights': 'int4'}, 'int4'),
    ({'max_new_tokens_limit': 0}, 'max_new_tokens_limit'),
    ({'batch_sizes': (4, 2)}, 'batch_sizes'),
    ({'batch_sizes': (0, 2)}, 'batch_sizes'),
    ({'stop': ('',)}, 'stop'),
    ({'eval_batches': -1}, 'eval_batches'),
  ],
)
def test_options_out_of_range(trained, tmp_path, wrong, said):
  with pytest.raises(UsageError, match=said):
    export(trained, tmp_path / 'm', Options()._replace(**wrong))
  assert not (tmp_path / 'm').exists()


def test_functions_of_tokens_leave_for_other_runtimes(trained, tmp_path):
  options = Options(weights='int8', batch_sizes=(2,))
  with pytest.raises(UsageError, match='context_length=48'):
    export_stablehlo(trained, tmp_path / 'a', options, 40, 9)
  export_stablehlo(trained, tmp_path / 'a', options, 3, 2)
  manifest = json.loads((tmp_path / 'a' / 'manifest.json').read_text())
  assert manifest['weights'] == 'int8'
  assert manifest['model']['emb_dim'] == trained.run.model.emb_dim
  assert set(manifest['functions']) == {'score-2', 'greedy-2'}
  score = manifest['functions']['score-2']
  dtypes = {a['name']: a['dtype'] for a in score['arguments']}
  assert dtypes['params.wte.values'] == 'int8'
  assert dtypes['params.wte.scale'] == 'float32'
  [logits] = score['results']
  assert logits['shape'] == [2, trained.run.model.vocab_size]


def test_each_format_has_flags_of_its_own():
  flags = ['--workdir=a', '--export_dir=b', '--format=stablehlo', '--xla']
  done = helpers.run('export.py', *flags)
  assert done.returncode == 2
  assert done.stderr == 'export.py: --xla is for --format=savedmodel\n'


def test_the_program_and_its_faults(model, tmp_path):
  run, base = tmp_path / 'run', tmp_path / 'models' / 'tiny'
  characters = CharTokenizer('abcdefghijklmnopq')
  workdir.write(run, model.config, model.params, characters)
  flags = [f'--workdir={run}', f'--export_dir={base}', '--version=3']
  more = ['--serving_config', '--weights=bfloat16']
  done = helpers.run('export.py', *flags, *more)
  assert done.returncode == 0, done.stderr
  assert str(base / '3') in done.stdout
  assert 'was not measured' in done.stdout
  assert 'docker run' in done.stdout
  assert (base / '3' / 'saved_model.pb').is_file()
  assert (base / 'batching.config').is_file()
  again = helpers.run('export.py', *flags)
  assert again.returncode == 1
  assert again.stderr.count('\n') == 1
  assert 'is there already' in again.stderr
