"""`minigpt convert`."""

import pathlib

import helpers
import pytest

from minigpt import tokenizers
from minigpt.checkpoints import huggingface, loading

safetensors = pytest.importorskip('safetensors.numpy')

ROOT = pathlib.Path(__file__).parents[2]
GOLDEN = ROOT / 'tests' / 'golden' / 'gpt2-wide'


def convert(**flags):
  flags = [f'--{name}={value}' for name, value in flags.items()]
  return helpers.run('-m', 'minigpt', 'convert', *flags)


@pytest.fixture(scope='module')
def char61():
  return tokenizers.build('char', ''.join(map(chr, range(40, 101))))


def test_there_and_back(tmp_path, char61):
  tokenizers.save(char61, tmp_path / 'tokenizer.json')
  run, back = tmp_path / 'runs' / 'wide', tmp_path / 'back'
  there = convert(
    **{'from': GOLDEN, 'to': run, 'tokenizer': tmp_path / 'tokenizer.json'}
  )
  assert (there.returncode, there.stdout) == (
    0,
    f'{run}: 8,720 parameters as a work directory\n',
  )
  again = convert(**{'from': run, 'to': back})
  assert again.returncode == 0
  assert 'GPT2LMHeadModel' in again.stdout
  wanted = safetensors.load_file(GOLDEN / huggingface.WEIGHTS)
  found = safetensors.load_file(back / huggingface.WEIGHTS)
  assert found.keys() == wanted.keys()
  for name, value in wanted.items():
    assert found[name].tobytes() == value.tobytes(), name
  # The work directory has the tokenizer.
  assert loading.load(back).tokenizer.to_json() == char61.to_json()


def test_a_fault_is_one_line():
  result = convert(**{'from': GOLDEN, 'to': ROOT / 'tests'})
  assert result.returncode == 1
  assert 'exists already' in result.stderr.strip().splitlines()[-1]
  assert 'Traceback' not in result.stderr
