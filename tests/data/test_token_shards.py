"""Reading token directories."""

import contextlib
import json
import os
import resource

import numpy as np
import pytest

from minigpt.config import DataConfig
from minigpt.data import sources, token_shards
from minigpt.data.batches import train_batches
from minigpt.data.windows import fingerprint, make_windows
from minigpt.errors import InputError


def test_shards_index_like_one_array():
  whole = np.arange(23, dtype=np.uint16)
  arrays = [whole[:5], whole[5:6], whole[6:]]
  found = token_shards.TokenShards([5, 1, 17], arrays.__getitem__, 'uint16')
  for start in range(24):
    for stop in range(start, 24):
      np.testing.assert_array_equal(found[start:stop], whole[start:stop])
  np.testing.assert_array_equal(found[:], whole)
  np.testing.assert_array_equal(found[3:9], whole[3:9])
  places = np.array([[0, 4, 5], [6, 22, 4]])
  np.testing.assert_array_equal(found[places], whole[places])
  part = found.part(4, 20).part(1, 10)
  assert len(part) == 9
  np.testing.assert_array_equal(part[:], whole[5:14])
  np.testing.assert_array_equal(part[np.array([0, 8])], [5, 13])
  assert part[2] == 7
  assert part.crc32 != found.crc32
  with pytest.raises(IndexError):
    part[np.array([9])]


def test_windows_and_fingerprints_of_a_token_directory(tokens):
  split = sources.read_split(DataConfig(dataset=str(tokens), val_fraction=0.25))
  whole = token_shards.open_tokens(tokens)[:]
  n = len(split.train)
  assert n == int(len(whole) * 0.75)
  windows = make_windows(split.train, 7, 0, 256)
  starts = np.array([[0, n - 8], [290, 5]])
  expected = whole[starts[..., None] + np.arange(8)]
  np.testing.assert_array_equal(windows.at(starts), expected)
  found = fingerprint(split.train, split.val)
  assert found.n_tokens == len(whole)
  assert found != fingerprint(split.val, split.train)


@contextlib.contextmanager
def few_open_files(n):
  """Lets this process open only `n` more files."""
  limits = resource.getrlimit(resource.RLIMIT_NOFILE)
  most = max(map(int, os.listdir('/proc/self/fd'))) + 1 + n
  resource.setrlimit(resource.RLIMIT_NOFILE, (most, limits[1]))
  try:
    yield most
  finally:
    resource.setrlimit(resource.RLIMIT_NOFILE, limits)


@pytest.fixture
def many_shards(tmp_path):
  """A directory of 600 shards of 3 tokens, and these tokens."""
  ids = np.arange(1800, dtype=np.uint16).reshape(600, 3)
  shards = []
  for i, part in enumerate(ids):
    np.save(tmp_path / f'shard-{i:05}.npy', part)
    crc = token_shards.checksum(part)
    shards.append(token_shards.Shard(f'shard-{i:05}.npy', 3, crc, 1))
  manifest = token_shards.Manifest('uint16', 1800, tuple(shards))
  (tmp_path / 'manifest.json').write_text(json.dumps(manifest.to_json()))
  return tmp_path, ids.ravel()


def test_more_shards_than_files_may_be_open(many_shards):
  folder, ids = many_shards
  places = np.random.default_rng(0).permutation(len(ids))
  with few_open_files(300) as most:
    assert most < 600
    found = token_shards.open_tokens(folder)
    np.testing.assert_array_equal(found[:], ids)
    np.testing.assert_array_equal(found[places], ids[places])
    # The run must be able to open further files.
    with contextlib.ExitStack() as stack:
      for _ in range(20):
        stack.enter_context(open(os.devnull))


def test_a_shard_that_is_gone_when_it_is_needed_is_one_error(many_shards):
  folder, _ = many_shards
  found = token_shards.open_tokens(folder)
  windows = make_windows(found, 2, 0, 1800)
  (folder / 'shard-00100.npy').unlink()  # Only the last 256 are still mapped.
  calls = [range(i, i + 1) for i in range(windows.n_examples)]
  batches = train_batches(windows, (1, 1), 0, calls, 1)
  with pytest.raises(InputError, match=r'shard-00100\.npy: No such file'):
    list(batches)


def test_damaged_directories_are_refused(tokens, tmp_path):
  copy = tmp_path / 'copy'
  copy.mkdir()
  for path in tokens.iterdir():
    (copy / path.name).write_bytes(path.read_bytes())
  shard = copy / 'shard-00003.npy'
  content = shard.read_bytes()
  shard.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
  with pytest.raises(InputError, match=r'shard-00003.npy is damaged'):
    token_shards.open_tokens(copy)
  shard.write_bytes(content[:-1])
  with pytest.raises(InputError, match=r'shard-00003.npy'):
    token_shards.open_tokens(copy)
  manifest = copy / 'manifest.json'
  fields = json.loads(manifest.read_text())
  fields['shards'][0]['name'] = '../shard-00000.npy'
  manifest.write_text(json.dumps(fields))
  with pytest.raises(InputError, match='is not a manifest'):
    token_shards.open_tokens(copy)


@contextlib.contextmanager
def shards_read(monkeypatch):
  """Collects the names of shards that are read as a whole."""
  names, read = [], token_shards.read_content
  with monkeypatch.context() as patch:
    patch.setattr(
      token_shards,
      'read_content',
      lambda path: (names.append(path.name), read(path))[1],
    )
    yield names


def test_shards_are_read_again_one_at_a_time_or_when_written(
  many_shards, monkeypatch
):
  folder, _ = many_shards
  names = sorted(path.name for path in folder.glob('*.npy'))
  for turn in (names, names[:1], names[1:2]):
    with shards_read(monkeypatch) as found:
      tokens = token_shards.open_tokens(folder)
    assert found == turn
    assert tokens.n_ids == 1800
  # The same size and date, but another byte.
  changed = folder / names[300]
  before = os.stat(changed)
  with changed.open('r+b') as file:
    file.seek(-1, os.SEEK_END)
    file.write(b'\7')
  os.utime(changed, ns=(before.st_atime_ns, before.st_mtime_ns))
  with pytest.raises(InputError, match=f'{names[300]} is damaged'):
    token_shards.open_tokens(folder)


def test_damage_without_a_trace_is_found_when_its_turn_comes(
  many_shards, monkeypatch
):
  folder, _ = many_shards
  token_shards.open_tokens(folder)
  decayed = folder / 'shard-00002.npy'
  decayed.write_bytes(decayed.read_bytes()[:-1] + b'\7')
  known = json.loads((folder / 'checked.json').read_text())
  known[decayed.name][1] = token_shards.identity(decayed)
  (folder / 'checked.json').write_text(json.dumps(known))
  for _ in range(2):
    token_shards.open_tokens(folder)
  with pytest.raises(InputError, match=r'shard-00002\.npy is damaged'):
    token_shards.open_tokens(folder)


@pytest.mark.parametrize('content', ['', '[]', '{"shard-00003.npy": [[], 1]}'])
def test_findings_that_are_none_are_made_again(many_shards, content):
  folder, ids = many_shards
  (folder / 'checked.json').write_text(content)
  np.testing.assert_array_equal(token_shards.open_tokens(folder)[:], ids)
  assert len(json.loads((folder / 'checked.json').read_text())) == 600


def test_an_id_that_the_vocabulary_lacks_is_found_in_checked_shards(
  many_shards,
):
  tokens = token_shards.open_tokens(many_shards[0])
  make_windows(tokens, 2, 0, 1800)
  with pytest.raises(InputError, match='token id 1799 at position 1799'):
    make_windows(tokens, 2, 0, 1799)


def test_token_arrays_take_the_smallest_dtype():
  for vocab_size, dtype in (
    (65, 'u1'),
    (256, 'u1'),
    (257, 'u2'),
    (50257, 'u2'),
  ):
    assert token_shards.token_dtype(vocab_size) == dtype


def test_tokens_are_read_through_the_memory_map(tmp_path):
  path = str(tmp_path / 'tokens.npy')
  np.save(path, np.arange(1000, dtype=np.uint16))
  split = sources.read_split(DataConfig(dataset=path, val_fraction=0.1))
  assert len(split.train) == 900 and split.val[0] == 900
  windows = make_windows(split.train, 8, 1, 1000)
  assert isinstance(windows.tokens, np.memmap)
  assert windows.at(np.array([5, 7]))[1].tolist() == list(range(7, 16))


def test_faults_of_token_files_name_the_culprit(tmp_path):
  path = tmp_path / 'tokens.npy'
  for content, fault in (
    (b'', 'is not a'),
    (b'garbage', 'is not a'),
  ):
    path.write_bytes(content)
    with pytest.raises(InputError, match=fault):
      sources.read_split(DataConfig(str(path)))
  np.save(path, np.zeros([2, 2]))
  with pytest.raises(InputError, match='one-dimensional integer'):
    sources.read_split(DataConfig(str(path)))
  np.save(path, np.array([{}]), allow_pickle=True)
  with pytest.raises(InputError, match='is not a'):
    sources.read_split(DataConfig(str(path)))


@pytest.mark.parametrize(
  'changes',
  [
    {'vocab_size': float('inf')},
    {'vocab_size': 1e400},
    {'vocab_size': '9'},
    {'dtype': ['uint8']},
    {'shards': 7},
    {'shards': [7]},
    {'shards': [{'name': 'a.npy'}]},
    {'shards': []},
  ],
  ids=str,
)
def test_manifests_with_other_values_are_refused(tmp_path, changes):
  shard = {'name': 'a.npy', 'n_tokens': 1, 'crc32': 0, 'n_documents': 0}
  fields = {'dtype': 'uint8', 'vocab_size': 9, 'shards': [shard]}
  path = tmp_path / 'manifest.json'
  path.write_text(json.dumps(fields))
  assert token_shards.read_manifest(tmp_path).shards[0].name == 'a.npy'
  path.write_text(json.dumps(fields | changes))
  with pytest.raises(InputError, match='is not a manifest'):
    token_shards.read_manifest(tmp_path)


def test_a_manifest_as_deep_as_the_sea_is_refused(tmp_path):
  (tmp_path / 'manifest.json').write_text('[' * 100_000)
  with pytest.raises(InputError, match='is not JSON'):
    token_shards.read_manifest(tmp_path)
