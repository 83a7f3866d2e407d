"""`minigpt tokenizer`: its file, its output and its errors."""

import gzip
import json
import string

import helpers
import pytest

from minigpt import tokenizers

TEXT = f'the sun sets in the west, {string.ascii_letters}\n' * 20


def test_it_writes_a_vocabulary_of_all_the_text(tmp_path, capsys):
  (tmp_path / 'a.txt').write_text(TEXT)
  lines = json.dumps({'text': '\u65e5\u672c\u8a9e\u3002' * 99}) + '\n'
  (tmp_path / 'b.jsonl.gz').write_bytes(gzip.compress(lines.encode()))
  out = tmp_path / 'out.json'
  flags = [f'--input={tmp_path}/[ab]*', f'--output={out}', '--vocab_size=290']
  assert helpers.run_here('tokenizer', *flags, '--special=<|user|>') == 0
  said = capsys.readouterr().out
  assert '290 tokens, of them 32 merges and 2 special' in said
  tokenizer = tokenizers.load(out)
  assert b'the' in tokenizer.tokens
  assert len(tokenizer.encode('\u65e5\u672c\u8a9e')) < 9
  assert tokenizer.special_ids == {'<|endoftext|>': 288, '<|user|>': 289}
  # An existing file is not overwritten.
  before = out.read_bytes()
  assert helpers.run_here('tokenizer', *flags) == 2
  assert 'exists already' in capsys.readouterr().err
  assert out.read_bytes() == before


@pytest.mark.parametrize(
  ('flags', 'code', 'words'),
  [
    ([], 2, '--output is missing'),
    (['--output=o'], 2, 'ends with .json'),
    (['--output=o.json'], 2, 'give --vocab_size'),
    (['--output=o.json', '--vocab_size=99'], 2, 'between 257'),
    (['--output=o.json', '--vocab_size=300'], 2, '--input is missing'),
    (['--output=o.json', '--vocab_size=300', '--input=x'], 1, 'x: no such'),
    (
      ['--output=o.json', '--vocab_size=300', '--special='],
      2,
      'special token is empty',
    ),
    (
      ['--output=o.json', '--vocab_size=60000', f'--input={__file__}'],
      1,
      'fills a vocabulary of',
    ),
  ],
)
def test_bad_input_gets_one_line(
  capsys, tmp_path, monkeypatch, flags, code, words
):
  monkeypatch.chdir(tmp_path)
  assert helpers.run_here('tokenizer', *flags) == code
  err = capsys.readouterr().err
  assert err.count('\n') == 1 and words in err
  assert list(tmp_path.iterdir()) == []
