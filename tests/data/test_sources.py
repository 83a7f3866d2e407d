"""Data sets by name and by path."""

import dataclasses
import os
import sys
import types

import pytest

from minigpt.config import DataConfig
from minigpt.data import corpus, sources
from minigpt.errors import InputError, UsageError


def test_the_last_part_of_the_text_is_for_validation(tmp_path):
  (tmp_path / 'a.txt').write_text('abcdefghi')
  (tmp_path / 'b.txt').write_text('J' * 10)
  split = sources.read_split(
    DataConfig(str(tmp_path / '*.txt'), val_fraction=0.5)
  )
  assert split == ('abcdefghi\n', 'J' * 10)


def test_a_file_is_itself_though_its_name_is_a_pattern(tmp_path):
  (tmp_path / 'a[1].txt').write_text('this')
  (tmp_path / 'a1.txt').write_text('not this')
  path = str(tmp_path / 'a[1].txt')
  assert sources.read_split(DataConfig(path, val_fraction=0)).train == 'this'
  assert corpus.input_paths([path, path]) == [path]
  assert corpus.input_paths(path) == [path]
  assert corpus.input_paths([str(tmp_path / 'a*.txt')]) == [
    str(tmp_path / 'a1.txt'),
    path,
  ]


def test_the_sample_is_the_specifications():
  assert len(sources.SAMPLE) == 82
  assert sources.read_split(DataConfig('sample', val_fraction=0)) == (
    sources.SAMPLE,
    sources.SAMPLE,
  )


def test_stdlib_is_python_source_and_the_same_each_time():
  text = sources.read_split(DataConfig('stdlib', val_fraction=0)).train
  assert len(text) > 5_000_000 and text.isascii()
  assert 'def ' in text and 'site-packages/numpy' not in text


@pytest.mark.skipif(
  not os.path.isdir(
    os.path.join(os.environ.get('TFDS_DATA_DIR', ''), 'tiny_shakespeare')
  ),
  reason='TFDS_DATA_DIR holds no tiny_shakespeare',
)
def test_tiny_shakespeare_has_both_splits():
  ours = sources.read_split(DataConfig('tiny_shakespeare'))
  assert list(map(len, ours)) == [1_003_854, 111_540]
  theirs = sources.read_split(DataConfig('tiny_shakespeare', own_splits=True))
  assert list(map(len, theirs)) == [1_003_854, 55_770]
  assert ours.train == theirs.train and ours.val.startswith(theirs.val)


def test_a_download_is_announced_before_it_is_tried(monkeypatch, capsys):
  """TFDS tries for minutes where there is no network."""

  said = []

  def load(name, batch_size):
    said.append(capsys.readouterr().err)
    raise ConnectionError

  builder = types.SimpleNamespace(is_prepared=lambda: False)
  tfds = types.SimpleNamespace(builder=lambda name: builder, load=load)
  monkeypatch.setitem(sys.modules, 'tensorflow_datasets', tfds)
  with pytest.raises(InputError, match='it needs a network once'):
    sources.read_split(DataConfig('tiny_shakespeare'))
  assert said[0].startswith('downloading tiny_shakespeare once')


def test_faults_of_text_name_the_culprit(tmp_path):
  empty, latin = tmp_path / 'empty.txt', tmp_path / 'latin.txt'
  (tmp_path / 'folder').mkdir()
  empty.touch()
  latin.write_bytes(b'caf\xe9')
  for dataset, fault in (
    (str(empty), 'holds no text'),
    (str(latin), 'not UTF-8 .byte 3'),
    (str(tmp_path / 'none.txt'), 'no such file'),
    (str(tmp_path / 'folder'), 'without files'),
  ):
    with pytest.raises(InputError, match=fault):
      sources.read_split(DataConfig(dataset))
  with pytest.raises(UsageError, match="did you mean 'tiny_shakespeare'"):
    sources.read_split(DataConfig('tinyshakespeare'))
  with pytest.raises(UsageError, match='own_splits'):
    sources.read_split(DataConfig('sample', own_splits=True))


def test_a_folder_stands_for_all_files_below_it(tmp_path):
  (tmp_path / 'b' / '.git').mkdir(parents=True)
  for name, content in (
    ('a.txt', b'A'),
    ('b/c.jsonl', b'{"text": "B\\r\\n"}'),
    ('b/d.txt', b'\xff'),
    ('b/.git/e', b'\xff'),
    ('.f', b'\xff'),
  ):
    (tmp_path / name).write_bytes(content)
  config = DataConfig(str(tmp_path), val_fraction=0)
  with pytest.raises(InputError, match=r'd\.txt is not UTF-8'):
    sources.read_split(config)
  config = dataclasses.replace(config, skip_bad_files=True)
  assert sources.read_split(config).train == 'A\nB\n'
  config = dataclasses.replace(config, raw_text=True)
  assert sources.read_split(config).train == 'A\nB\r\n'
  (tmp_path / 'plan.json').touch()
  with pytest.raises(InputError, match='unfinished preparation'):
    sources.read_split(config)


def test_the_tokenizer_comes_with_the_tokens(tokens):
  given = {'dataset': str(tokens)}
  assert sources.resolve_tokenizer(given)['tokenizer'] == 'word'
  assert sources.resolve_tokenizer({'dataset': 'sample'}) == {
    'dataset': 'sample'
  }
  with pytest.raises(UsageError, match='were made with word'):
    sources.resolve_tokenizer({**given, 'tokenizer': 'char'})
  with pytest.raises(UsageError, match=r'--special: .* have a vocabulary'):
    sources.resolve_tokenizer({**given, 'special': ('<a>',)})
