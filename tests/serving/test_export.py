"""The files of an exported version."""

import json
import sys
from pathlib import Path

import pytest
import tensorflow as tf

from minigpt.checkpoints.loading import load_trained
from minigpt.errors import InputError, UsageError
from minigpt.serving import export as exporting
from minigpt.serving import model_card
from minigpt.serving.export import export, export_stablehlo
from minigpt.serving.options import Options
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


@pytest.mark.parametrize('xla', [False, True])
def test_matrices_lie_as_who_multiplies_reads_them(xla, trained, monkeypatch):
  stored = []
  monkeypatch.setattr(
    exporting, '_write', lambda _, __, p, *more: stored.append(p) or {}
  )
  monkeypatch.setattr(exporting.versions, 'publish', _write_nowhere)
  export(trained, Path('models/sun'), Options(xla=xla))
  w = trained.model.params.blocks[0].attn.c_attn.w
  wide = stored[0].blocks[0].attn.c_attn.w
  if xla:
    assert wide.values.shape == w.shape[::-1]
  else:
    assert wide is w


def _write_nowhere(base, write, version, keep):
  write(base, 1)
  return base / '1'


def test_the_card_tells_what_was_exported(int8, trained):
  card = json.loads((int8.path / 'assets.extra' / 'model.json').read_text())
  assert card['name'] == 'sun'
  assert card['version'] == 1
  assert card['weights'] == 'int8'
  if exporting.digit_matmul.available():
    assert card['compute_dtype'] == 'int8'
    assert card['server'].startswith('TensorFlow for x86, best on')
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


# Rows of the table that only list differences.
REFERS_TO = {
  'generate_ids': ['generate'],
  'generate_v2': ['generate'],
  'generate_ids_v2': ['generate_ids', 'generate'],
}


def test_a_lone_string_is_one_that_ends_answers():
  assert Options(stop='ab').check().stop == ('ab',)


def test_documented_signatures_are_those_of_the_graph(int8):
  """Compares the table of the reference with the card, by name."""
  card = json.loads((int8.path / 'assets.extra' / 'model.json').read_text())
  text = (ROOT / 'docs/reference/signatures.md').read_text()
  rows = {
    line.split('|')[1].strip(' `'): line
    for line in text.splitlines()
    if line.startswith('| `')
  }
  assert set(card['signatures']) <= set(rows)
  for name, sides in card['signatures'].items():
    _, _, inputs, outputs, _ = rows[name].split('|')
    if name in REFERS_TO:
      inputs += ''.join(rows[other] for other in REFERS_TO[name])
      outputs = rows['generate']
    for side, cell in (('inputs', inputs), ('outputs', outputs)):
      for key, kind in sides[side].items():
        assert f'`{key}` {kind.split()[0]}' in cell, (name, key)


def test_warm_up_has_one_request_for_each_batch_size(int8, trained):
  logs = pytest.importorskip('tensorflow_serving.apis.prediction_log_pb2')
  path = int8.path / 'assets.extra' / 'tf_serving_warmup_requests'
  signatures = tf.saved_model.load(str(int8.path)).signatures
  sizes = []
  for record in tf.data.TFRecordDataset(str(path)):
    log = logs.PredictionLog.FromString(record.numpy())
    request = log.predict_log.request
    assert request.model_spec.name == 'sun'
    name = request.model_spec.signature_name
    inputs = {k: tf.make_ndarray(v) for k, v in request.inputs.items()}
    inputs = {k: tf.constant(v) for k, v in inputs.items()}
    answer = signatures[name](**inputs)
    sizes.append((name, int(answer['num_tokens'].shape[0])))
  names = ('generate', 'generate_v2', 'generate_chunk')
  assert sizes == [(name, size) for name in names for size in (1, 3)]


def test_without_the_serving_protos_the_export_goes_on(monkeypatch, tmp_path):
  monkeypatch.setitem(sys.modules, 'tensorflow_serving.apis', None)
  with pytest.raises(InputError, match=r'minigpt\[serve\]'):
    exporting.warmup.write(tmp_path, 'sun', 'a', [1])
  assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
  'wrong, said',
  [
    ({'weights': 'int4'}, 'int4'),
    ({'max_new_tokens_limit': 0}, 'max_new_tokens_limit'),
    ({'batch_sizes': (4, 2)}, 'batch_sizes'),
    ({'max_new_tokens_limit': 2**31}, 'max_new_tokens_limit'),
    ({'batch_sizes': ()}, 'batch_sizes=: give at least one'),
    ({'batch_sizes': (1, 2**31)}, 'batch_sizes'),
    ({'batch_sizes': (0, 2)}, 'batch_sizes'),
    ({'stop': ('',)}, 'stop'),
    ({'eval_batches': -1}, 'eval_batches'),
    ({'compute_dtype': 'float61'}, 'compute_dtype'),
    ({'compute_dtype': 'bfloat16', 'weights': 'int8'}, 'weights=int8 compute'),
    (
      {'compute_dtype': 'int8', 'weights': 'bfloat16'},
      'in bfloat16 or float32',
    ),
    ({'compute_dtype': 'bfloat16', 'xla': True}, 'leave --xla out'),
  ],
)
def test_options_out_of_range(trained, tmp_path, wrong, said):
  with pytest.raises(UsageError, match=said):
    export(trained, tmp_path / 'm', Options()._replace(**wrong))
  assert not (tmp_path / 'm').exists()


@pytest.mark.parametrize('dtype', ['bfloat16', 'int8'])
def test_without_its_kernels_nothing_is_exported(
  dtype, trained, tmp_path, monkeypatch
):
  for kernel in (exporting.prepacked_matmul, exporting.digit_matmul):
    monkeypatch.setattr(kernel, 'available', lambda: False)
  with pytest.raises(UsageError, match='lacks the kernels of oneDNN'):
    export(trained, tmp_path / 'm', Options(compute_dtype=dtype))
  assert not (tmp_path / 'm').exists()


@pytest.mark.parametrize(
  'options, has_int8, chosen',
  [
    (Options(), True, 'float32'),
    (Options('int8'), True, 'int8'),
    (Options('int8'), False, 'float32'),
    (Options('int8', xla=True), True, 'float32'),
    (Options('int8', compute_dtype='float32'), True, 'float32'),
    (Options('bfloat16'), True, 'float32'),
    (Options(compute_dtype='bfloat16'), True, 'bfloat16'),
  ],
)
def test_int8_multiplies_in_int8_where_a_server_can(options, has_int8, chosen):
  assert options.chosen_dtype(lambda: has_int8) == chosen


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


def test_a_card_keeps_its_tables_whatever_a_name_holds():
  nested = 'versions', 'model', 'data', 'train', 'signatures'
  fields = {'name': 'a\nb', 'version': 1, 'stop': ('|',)}
  text = model_card.markdown({**fields, **{name: {} for name in nested}})
  assert text.startswith('# a b, version 1\n')
  assert r"| stop | ('\|',) |" in text.splitlines()
