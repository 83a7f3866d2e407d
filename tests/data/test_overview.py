"""Statistics of a data set."""

import pytest

from minigpt.config import DataConfig
from minigpt.data import overview
from minigpt.errors import UsageError


def test_lines_are_counted_by_length_and_repetition():
  found = overview.count_lines('\n'.join(['', 'ab', 'x' * 15, 'x' * 16, ' ab']))
  assert found.n == 5
  assert found.n_repeated == 1
  assert found.most_frequent == ('ab', 2)
  assert found.histogram == (1, 3, 1, 0, 0, 0, 0, 0, 0)
  assert len(overview.labels()) == len(found.histogram)
  assert overview.labels()[:3] == ['0', '1-15', '16-31']
  assert overview.count_lines('').most_frequent == ('', 0)


def test_a_text_is_described(tmp_path):
  (tmp_path / 'a.txt').write_text('abc\n' * 20 + 'ab\u00e9!' * 5)
  config = DataConfig(str(tmp_path / 'a.txt'), val_fraction=0.2)
  found = overview.look(config, 8)
  assert found.unseen == '!\u00e9'
  assert (found.n_looked, found.n_characters, found.n_bytes) == (80, 80, 80)
  assert found.n_unused == 2
  assert found.windows[0] == 'abc\nabc\n' and len(found.windows) == 5
  text = overview.describe(found)
  assert '80 tokens, 9 windows of 8' in text
  assert '20 tokens, 20.0%' in text
  assert '2 characters of the validation part are not in' in text
  assert "most often, 20 times, 'abc'" in text


def test_tokens_are_described_by_their_text(tokens, tokenizer, story):
  found = overview.look(DataConfig(str(tokens), tokenizer='word'), 16)
  assert found.tokenizer.to_json() == tokenizer.to_json()
  assert found.windows[0] == tokenizer.decode(tokenizer.encode(story)[:16])


def test_only_the_beginning_of_a_long_text_is_looked_at(tmp_path, monkeypatch):
  monkeypatch.setattr(overview, '_MOST', 100)
  (tmp_path / 'a.txt').write_text('abc' * 400)
  found = overview.look(DataConfig(str(tmp_path / 'a.txt')), 8)
  assert (found.n_looked, found.n_characters) == (100, 100)
  assert 'never occur, of the first 100\n' in overview.describe(found)


def test_prompts_and_completions_are_no_text(tmp_path):
  path = tmp_path / 'pairs.jsonl'
  path.write_text('{"prompt": "a", "completion": "b"}\n')
  with pytest.raises(UsageError, match='holds prompts and completions'):
    overview.look(DataConfig(str(path)), 8)
