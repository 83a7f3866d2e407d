"""Malformed values and files, thousands of them, for all that reads them.

Only the two errors that commands print as one line may come out, and no
file may be left behind.
"""

import json
import math

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from minigpt import tokenizers
from minigpt.checkpoints import checkpoint, huggingface, workdir
from minigpt.config import (
  PRESETS,
  DataConfig,
  GPTConfig,
  TrainConfig,
  preset_values,
  resolve,
)
from minigpt.data import (
  jsonl,
  shard_writer,
  sources,
  text_files,
  token_shards,
  windows,
)
from minigpt.errors import InputError, UsageError
from minigpt.tokenizers import cuts
from minigpt.training import cluster, memory_estimate, stability
from minigpt.training.metrics import read_metrics

ERRORS = (UsageError, InputError)


def fuzz(n):
  """Runs the same `n` examples each time, in every process."""
  return settings(
    max_examples=n,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=list(HealthCheck),
  )


NUMBERS = st.one_of(
  st.integers(-2, 3),
  st.integers(),
  st.sampled_from([10**400, -(10**400), 2**31, 2**63]),
)
VALUES = {
  bool: st.booleans(),
  int: NUMBERS,
  float: st.one_of(st.floats(), st.floats(0, 2)),
  str: st.one_of(st.text(max_size=8), st.sampled_from(['gpt2', 'a.jsonl'])),
  tuple[str, ...]: st.lists(st.text(), max_size=3).map(tuple),
}
FIELDS = {
  name: field.type
  for config in (GPTConfig, DataConfig, TrainConfig)
  for name, field in config.__dataclass_fields__.items()
}
JSON = st.recursive(
  st.one_of(st.none(), st.booleans(), NUMBERS, st.floats(), st.text()),
  lambda inner: (
    st.lists(inner, max_size=3)
    | st.dictionaries(st.text(max_size=4), inner, max_size=3)
  ),
  max_leaves=5,
)


@st.composite
def flags(draw):
  names = draw(st.lists(st.sampled_from(sorted(FIELDS)), max_size=4))
  return {name: draw(VALUES[FIELDS[name]]) for name in names}


@fuzz(500)
@given(st.sampled_from([*sorted(PRESETS), 'nothing']), flags())
def test_flags_of_any_value_settle_or_are_refused(preset, values):
  try:
    found = resolve(preset_values(preset, values))
    config = GPTConfig(**found.model)
    if config.n_layers < 100:
      memory_estimate.check(config, found.train, 1 << 34)
  except ERRORS as error:
    assert str(error) and '\n' not in str(error)
  else:
    numbers = [*vars(found.train).values(), *found.model.values()]
    assert all(math.isfinite(n) for n in numbers if isinstance(n, int | float))


@st.composite
def damaged_json(draw, valid):
  """Changes or removes a value somewhere in the document."""
  fields = json.loads(json.dumps(valid))
  place, key = None, None
  node = fields
  while isinstance(node, dict | list) and node:
    keys = list(node) if isinstance(node, dict) else range(len(node))
    place, key = node, draw(st.sampled_from(keys))
    node = node[key]
    if draw(st.integers(0, 3)) == 0:
      break
  if place is None or draw(st.integers(0, 9)) == 0:
    return json.dumps(draw(JSON)).encode()
  if isinstance(place, dict) and draw(st.integers(0, 3)) == 0:
    del place[key]
  else:
    place[key] = draw(JSON)
  return json.dumps(fields).encode()


@st.composite
def damaged_bytes(draw, valid):
  """Truncates, changes or extends the file."""
  content = bytearray(valid)
  for _ in range(draw(st.integers(1, 3))):
    at = draw(st.integers(0, len(content)))
    end = min(len(content), at + draw(st.integers(0, 4)))
    content[at:end] = draw(st.binary(max_size=4))
  return bytes(content[: draw(st.integers(0, len(content)))] or content)


def damaged(valid):
  if isinstance(valid, bytes):
    return damaged_bytes(valid)
  return st.one_of(
    damaged_json(valid), damaged_bytes(json.dumps(valid).encode())
  )


def _saved(path, config, tokenizer):
  run = workdir.RunConfig(config, DataConfig(), TrainConfig())
  workdir.create(path, run, tokenizer, windows.Fingerprint(9, 9))


CONFIG = GPTConfig(
  vocab_size=4, context_length=3, emb_dim=4, n_heads=2, n_layers=1
)
WORDS = {'kind': 'word', 'words': ['a', 'b', '<|unk|>', '<|eos|>']}


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
  """A run, a token directory and a model of Hugging Face, all small."""
  root = tmp_path_factory.mktemp('files')
  (root / 'words.json').write_text(json.dumps(WORDS))
  tokenizer = tokenizers.load(root / 'words.json')
  _saved(root / 'run', CONFIG, tokenizer)
  (root / 'run' / 'metrics.jsonl').write_text(
    '{"step": 1, "train_loss": 2.0}\n' * 2
  )
  stability.skip(
    root / 'run' / 'skipped.json', {'step': 1, 'train_loss': 2.0}, 3
  )
  (root / 'a.txt').write_text('a b a')
  (root / 'tokens').mkdir()
  tokenizers.save(tokenizer, root / 'tokens' / 'tokenizer.json')
  [piece] = text_files.split_file(str(root / 'a.txt'), 1 << 20, cuts.ANYWHERE)
  shard = shard_writer.write_shard([piece], root / 'tokens', 0, 'uint8')
  shard_writer.write_manifest(root / 'tokens', [shard], tokenizer, 'uint8')
  token_shards.open_tokens(root / 'tokens')  # This writes checked.json.
  (root / 'pairs.jsonl').write_text('{"prompt": "a", "completion": "b"}\n' * 2)
  (root / 'info').mkdir()
  return root


@pytest.fixture(scope='module')
def hf_folder(folder, model):
  pytest.importorskip('safetensors', reason='no safetensors')
  tokenizer = tokenizers.build('char', 'abcdefghijklmnopq')
  huggingface.write(folder / 'hf', model.config, model.params, tokenizer)
  return folder


def check(root, name, content, read):
  """Reads the damaged file; checks that no other file changes."""
  path = root / name
  whole, before = path.read_bytes(), sorted(root.rglob('*'))
  path.write_bytes(content)
  try:
    read()
  except ERRORS as error:
    assert str(error)
  finally:
    path.write_bytes(whole)
  assert sorted(root.rglob('*')) == before


def _read_tokens(folder):
  tokens = sources.read_split(DataConfig(dataset=str(folder))).train
  if len(tokens) > 1:
    windows.make_windows(tokens, 1, 0, 4)


READERS = {
  'run/config.json': lambda root: (
    workdir.load_config(root / 'run'),
    workdir.check_same_data(root / 'run', windows.Fingerprint(9, 9)),
  ),
  'run/tokenizer.json': lambda root: tokenizers.load(
    root / 'run' / 'tokenizer.json'
  ),
  'run/metrics.jsonl': lambda root: read_metrics(
    root / 'run' / 'metrics.jsonl'
  ),
  'run/skipped.json': lambda root: stability.read_skipped(
    root / 'run' / 'skipped.json'
  ),
  'tokens/manifest.json': lambda root: _read_tokens(root / 'tokens'),
  'tokens/checked.json': lambda root: _read_tokens(root / 'tokens'),
  'tokens/tokenizer.json': lambda root: sources.resolve_tokenizer(
    {'dataset': str(root / 'tokens')}
  ),
  'tokens/shard-00000.npy': lambda root: _read_tokens(root / 'tokens'),
  'pairs.jsonl': lambda root: jsonl.read_pairs(root / 'pairs.jsonl'),
}


@pytest.mark.parametrize('name', READERS)
def test_damaged_files_are_read_or_refused(folder, name):
  valid = (folder / name).read_bytes()
  kind = valid
  if name.endswith('.json'):
    kind = json.loads(valid)

  @fuzz(160)
  @given(damaged(kind))
  def one(content):
    check(folder, name, content, lambda: READERS[name](folder))

  one()


@pytest.mark.parametrize('name', ['config.json', 'model.safetensors'])
def test_damaged_models_are_read_or_refused(hf_folder, name):
  valid = (hf_folder / 'hf' / name).read_bytes()
  kind = json.loads(valid) if name == 'config.json' else valid[:2000]

  @fuzz(160)
  @given(damaged(kind))
  def one(content):
    if name != 'config.json':
      content += valid[2000:]
    check(
      hf_folder,
      f'hf/{name}',
      content,
      lambda: huggingface.read(hf_folder / 'hf'),
    )

  one()


@fuzz(160)
@given(damaged({'val_loss': 1.0, 'best_loss': 1.0, 'n_worse': 0, 'step': 7}))
def test_damaged_notes_of_a_checkpoint_are_passed_over(content):
  try:
    text = content.decode()
    found = checkpoint.unseal(text)
  except ValueError:
    return
  assert isinstance(found, dict)


TASK = {'cluster': {'worker': ['a:1', 'b:2']}, 'task': {'type': 'worker'}}


@fuzz(160)
@given(damaged({**TASK, 'task': {'type': 'worker', 'index': 1}}))
def test_clusters_of_any_form_are_read_or_refused(content):
  try:
    cluster.read_cluster(content.decode(errors='replace'))
  except UsageError as error:
    assert '\n' not in str(error)


@fuzz(160)
@given(st.lists(st.integers(0, 2**40), max_size=3), st.binary(max_size=64))
def test_a_header_takes_no_memory_that_the_file_lacks(folder, shape, content):
  path = folder / 'info' / 'big.npy'
  with open(path, 'wb') as file:
    np.lib.format.write_array_header_1_0(
      file,
      {'descr': '|u1', 'fortran_order': False, 'shape': tuple(shape)},
    )
    file.write(content)
  try:
    tokens = token_shards.map_tokens(path)
  except ERRORS:
    return
  finally:
    path.unlink()
  assert len(tokens) <= 64
