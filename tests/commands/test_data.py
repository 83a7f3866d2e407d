"""`minigpt data`: its output and its errors."""

import helpers
import pytest


def test_it_prints_an_overview_and_draws_the_lengths(tmp_path, capsys):
  pytest.importorskip('matplotlib')
  (tmp_path / 'a.txt').write_text('the sun sets in the west\n' * 40)
  flags = [f'--dataset={tmp_path}/a.txt', '--tokenizer=bpe']
  flags += ['--vocab_size=262', '--context_length=8']
  flags += [f'--output={tmp_path}/lengths.svg']
  assert helpers.run_here('data', *flags) == 0
  said = capsys.readouterr().out
  assert 'windows of 8' in said and 'vocabulary  262 (bpe)' in said
  assert '</svg>' in (tmp_path / 'lengths.svg').read_text()


@pytest.mark.parametrize(
  ('flags', 'code', 'words'),
  [
    (['--dataset=none'], 2, 'unknown dataset'),
    (['--dataset=no/such.txt'], 1, 'no such file'),
    (['--context_length=100'], 2, 'fewer than'),
    (['--context_length=8', '--output=no/a.png'], 1, 'no/a.png'),
  ],
)
def test_bad_input_gets_one_line(
  capsys, monkeypatch, tmp_path, flags, code, words
):
  monkeypatch.chdir(tmp_path)
  assert helpers.run_here('data', *flags) == code
  err = capsys.readouterr().err
  assert err.count('\n') == 1 and words in err
  assert list(tmp_path.iterdir()) == []
