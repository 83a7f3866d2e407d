"""`minigpt prepare`: its files, its output and its errors."""

import re
import shlex
import signal
import subprocess
import sys

import helpers
import numpy as np
import pytest

from minigpt import tokenizers
from minigpt.data import token_shards


@pytest.fixture
def inputs(tmp_path):
  """Two files of text, a tokenizer of their words, and flags that name them."""
  texts = ['the sun sets\n' * 40, 'the moon rises\n' * 40]
  for name, text in zip('ab', texts, strict=True):
    (tmp_path / f'{name}.txt').write_text(text)
  tokenizer = tokenizers.build('word', ''.join(texts))
  tokenizers.save(tokenizer, tmp_path / 'words.json')
  flags = [
    f'--input={tmp_path}/*.txt',
    f'--tokenizer={tmp_path}/words.json',
    '--workers=2',
  ]
  return texts, tokenizer, flags


def test_it_writes_tokens_and_says_how_to_train_on_them(inputs, tmp_path):
  texts, tokenizer, flags = inputs
  out = tmp_path / 'my tokens [1]'
  done = helpers.run('-m', 'minigpt', 'prepare', f'--output={out}', *flags)
  assert (done.returncode, done.stderr) == (0, '')
  found = token_shards.open_tokens(out)
  parts = [
    np.append(tokenizer.encode(text), tokenizer.end_of_text) for text in texts
  ]
  np.testing.assert_array_equal(found[:], np.concatenate(parts))
  assert f'{len(found):,} tokens of 2 documents' in done.stdout
  # The command that it prints is valid.
  [line] = re.findall(r'python -m minigpt (train .*)', done.stdout)
  flags = shlex.split(line.replace('--workdir=...', '--context_length=8'))
  dry = helpers.run('-m', 'minigpt', *flags, '--dry_run')
  assert dry.returncode == 0, dry.stderr


KILLED = """
import os, runpy, signal, sys
from minigpt.data import vocabulary

def parts(*given, read=vocabulary.parts):
  for i, text in enumerate(read(*given)):
    if i == 1:
      os.kill(os.getpid(), signal.SIGKILL)
    yield text

vocabulary.parts = parts
sys.argv[:1] = ['minigpt', 'prepare']
runpy.run_module('minigpt', run_name='__main__')
"""


@pytest.mark.parametrize('kind', ['char', 'bpe'])
def test_a_kill_while_the_vocabulary_is_learned_leaves_nothing(
  inputs, tmp_path, kind
):
  texts, _, _ = inputs
  command = [f'--input={tmp_path}/*.txt', f'--tokenizer={kind}', '--workers=1']
  if kind == 'bpe':
    command.append('--vocab_size=262')
  before = sorted(tmp_path.iterdir())
  out = tmp_path / 'out'
  killed = subprocess.run(
    [sys.executable, '-c', KILLED, f'--output={out}', *command],
    cwd=helpers.ROOT,
  )
  assert killed.returncode == -signal.SIGKILL
  assert sorted(tmp_path.iterdir()) == before
  assert helpers.run_here('prepare', f'--output={out}', *command) == 0
  found = tokenizers.load(out / 'tokenizer.json')
  end = '\n' if kind == 'char' else '<|endoftext|>'
  text = ''.join(text + end for text in texts)
  assert found.decode(token_shards.open_tokens(out)[:]) == text


@pytest.mark.parametrize(
  ('flags', 'code', 'words'),
  [
    ([], 2, '--output is missing'),
    (['--output=o'], 2, 'input'),
    (['--output=o', f'--input={__file__}', '--tokenizer=t'], 2, 'tokenizer'),
    (['--output=o', f'--input={__file__}', '--tokenizer=bpe'], 2, 'vocab_size'),
    (['--output=o', '--workers=0'], 2, 'workers=0'),
    (['--output=o', '--shard_mb=0'], 2, 'shard_mb=0'),
  ],
)
def test_bad_input_gets_one_line(
  capsys, tmp_path, monkeypatch, flags, code, words
):
  monkeypatch.chdir(tmp_path)
  assert helpers.run_here('prepare', *flags) == code
  err = capsys.readouterr().err
  assert err.count('\n') == 1 and words in err
  assert list(tmp_path.iterdir()) == []
