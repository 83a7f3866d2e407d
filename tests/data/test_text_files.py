"""Reading text files of every kind."""

import gzip
import itertools
import json
import sys

import pytest

from minigpt import tokenizers
from minigpt.data import text_files
from minigpt.errors import InputError
from minigpt.tokenizers.cuts import ANYWHERE, BEFORE_BLANKS

TEXT = 'caf\u00e9 \u3000\n\u65e5\u672c\u8a9e\u3002\n' * 3


def read_text(path, raw=False):
  return ''.join(text_files.joined([path], raw))


@pytest.mark.parametrize('kind', ['char', 'word', 'gpt2', 'bpe'])
def test_files_are_split_where_no_token_is(kind, tmp_path, monkeypatch):
  monkeypatch.setattr(text_files, '_READ', 5)
  text = (
    TEXT + "It's\u3000\u2026 3.14\r\n\r\n<|user|>\u65e5\u3002<|user|>x\n" * 3
  )
  tokenizer = _tokenizer(kind, text)
  path = tmp_path / 'text.txt'
  path.write_text(text, encoding='utf-8', newline='')
  for size in range(3, 40, 4):  # Most of these offsets lie within a character.
    found = text_files.split_file(str(path), size, tokenizer.cuts)
    stops = [0, *(part.stop for part in found)]
    assert [part.start for part in found] == stops[:-1]
    assert stops[-1] == path.stat().st_size and len(found) > 3
    assert [part.ends_document for part in found[-2:]] == [False, True]
    parts = [p for r in found for d in _documents(r, tokenizer) for p in d]
    assert len(parts) >= len(found)
    ids = [i for part in parts for i in tokenizer.encode(part)]
    assert ids == tokenizer.encode(text.replace('\r\n', '\n')).tolist()


def _documents(text_range, tokenizer):
  return text_files.documents(text_range, tokenizer.cuts)


def _tokenizer(kind, text):
  options = {}
  if kind == 'bpe':
    options = dict(vocab_size=270, special=('<|user|>', '\u65e5\u3002'))
  try:
    return tokenizers.build(kind, text, **options)
  except InputError as error:
    pytest.skip(str(error))


def test_text_that_cannot_be_cut_is_refused_before_it_fills_the_memory(
  tmp_path, monkeypatch
):
  monkeypatch.setattr(text_files, '_READ', 10)
  monkeypatch.setattr(text_files, '_LONGEST_UNCUT', 50)
  path = str(tmp_path / 'a.txt')
  (tmp_path / 'a.txt').write_text('a word' + 'x' * 99)
  words = tokenizers.build('word', 'a').cuts
  for read in (
    lambda: text_files.split_file(path, 20, words),
    lambda: list(text_files.parts(path, words)),
    lambda: list(text_files.recut(text_files.joined([path]), 5, words)),
  ):
    with pytest.raises(
      InputError, match=r'50 characters without .* into lines'
    ):
      read()
  assert len(text_files.split_file(path, 20, ANYWHERE)) == 5
  learned = tokenizers.cuts_to_learn('bpe')
  assert max(map(len, text_files.parts(path, learned))) < 20


def compress(content, *sizes):
  """Compresses to one Zstandard frame, or to several."""
  zstandard = pytest.importorskip('zstandard')
  cut = [0, *sizes, len(content)]
  return b''.join(
    zstandard.ZstdCompressor().compress(content[a:b])
    for a, b in itertools.pairwise(cut)
  )


def lines(*texts):
  return ''.join(json.dumps({'text': text}) + '\n' for text in texts).encode()


@pytest.mark.parametrize(
  ('name', 'end'),
  [
    ('a.parquet', ''),
    *itertools.product(
      ['a.txt', 'a.jsonl'], ['', '.gz', '.zst', '.zst in frames']
    ),
  ],
)
def test_every_kind_of_file_has_the_same_text(tmp_path, name, end):
  path = tmp_path / (name + end.partition(' ')[0])
  content = TEXT.encode() if name == 'a.txt' else lines(TEXT)
  if end == '.gz':
    content = gzip.compress(content, mtime=0)
  elif end:
    content = compress(content, *([7, 20] if 'in' in end else []))
  if name.endswith('.parquet'):
    pyarrow = pytest.importorskip('pyarrow')
    table = pyarrow.table({'id': [1], 'text': [TEXT]})
    pytest.importorskip('pyarrow.parquet').write_table(table, path)
  else:
    path.write_bytes(content)
  assert read_text(str(path)) == TEXT


def test_documents_stand_on_lines_of_their_own(tmp_path):
  path = tmp_path / 'a.jsonl'
  path.write_bytes(lines('a\nb', '', 'c'))
  assert read_text(str(path)) == 'a\nb\n\nc'


def test_line_ends_and_byte_order_marks_are_normalized(tmp_path):
  path = tmp_path / 'a.txt'
  text = '\ufeffone\r\ntwo\rthree\ufeff\n\r\n'
  path.write_text(text, encoding='utf-8', newline='')
  assert read_text(str(path)) == 'one\ntwo\rthree\ufeff\n\n'
  assert read_text(str(path), raw=True) == text
  # Wherever a large file is split.
  text = 'a b\r\n' * 300
  path.write_text(text, encoding='utf-8', newline='')
  for raw, cuts in itertools.product((False, True), (BEFORE_BLANKS, ANYWHERE)):
    ranges = text_files.split_file(str(path), 50, cuts, raw)
    assert len(ranges) > 20
    found = (text_files.documents(r, cuts) for r in ranges)
    parts = [p for documents in found for d in documents for p in d]
    wanted = text if raw else text.replace('\r\n', '\n')
    assert ''.join(parts) == wanted
  records = tmp_path / 'a.jsonl'
  records.write_bytes(lines('\ufeffa\r\nb'))
  assert read_text(str(records)) == '\ufeffa\nb'


@pytest.mark.parametrize('limit', [1, 2, 5, 1 << 20])
def test_the_byte_that_is_no_text_is_named(tmp_path, monkeypatch, limit):
  monkeypatch.setattr(text_files, '_READ', limit)
  path = tmp_path / 'a.txt'
  for content in (b'caf\xe9 x', 'abc\u00e9'.encode()[:-1]):
    path.write_bytes(content)
    with pytest.raises(InputError, match=r'a.txt is not UTF-8 \(byte 3\)'):
      read_text(str(path))
    path.write_bytes(b'x' + content)
    with pytest.raises(InputError, match=r'\(byte 4\)'):
      read_text(str(path))


@pytest.mark.parametrize('name', ['a.txt.zst', 'a.parquet'])
def test_files_that_are_damaged_or_cut_short_are_named(tmp_path, name):
  path = tmp_path / name
  if name == 'a.parquet':
    pytest.importorskip('pyarrow')
    contents = [b'PAR1', b'']
  else:
    whole = compress(b'some text\n' * 9)
    contents = [whole[:-3], whole[:3], b'no frame', whole + b'more']
  for content in contents:
    path.write_bytes(content)
    with pytest.raises(InputError, match=str(path)) as caught:
      read_text(str(path))
    assert '\n' not in str(caught.value)


def test_parquet_needs_a_column_of_text(tmp_path):
  pyarrow = pytest.importorskip('pyarrow')
  parquet = pytest.importorskip('pyarrow.parquet')
  path = str(tmp_path / 'a.parquet')
  for table, fault in (({'txt': ['a']}, 'no column'), ({'text': [1]}, 'is 1')):
    parquet.write_table(pyarrow.table(table), path)
    with pytest.raises(InputError, match=fault):
      read_text(path)


@pytest.mark.parametrize(
  ('name', 'library'), [('a.zst', 'zstandard'), ('a.parquet', 'pyarrow')]
)
def test_without_the_library_it_says_how_to_install_it(
  tmp_path, monkeypatch, name, library
):
  (tmp_path / name).write_bytes(b'x')
  monkeypatch.setitem(sys.modules, library, None)
  monkeypatch.setitem(sys.modules, f'{library}.parquet', None)
  with pytest.raises(InputError, match=rf"{library}: pip install 'minigpt\[t"):
    read_text(str(tmp_path / name))


def test_bad_files_are_named_counted_and_left_out(tmp_path, capsys):
  for name, content in (('a', b'good'), ('b', b'\xff'), ('c', b'good, too')):
    (tmp_path / f'{name}.txt').write_bytes(content)
  paths = [str(tmp_path / f'{name}.txt') for name in 'abc']
  found = text_files.readable(paths, text_files.text_length)
  assert found == [(paths[0], 4), (paths[2], 9)]
  err = capsys.readouterr().err.splitlines()
  assert err[0].startswith(f'skipped: {paths[1]} is not UTF-8 (byte 0)')
  assert err[1:] == ['1 of 3 files skipped']
  with pytest.raises(InputError, match='none of 1 files'):
    text_files.readable(paths[1:2], text_files.text_length)
