"""Flags from configs, and exit codes from errors."""

import dataclasses
import subprocess
import sys

import helpers
import pytest
from absl import flags

from minigpt.config.validation import option
from minigpt.errors import InputError, UsageError
from minigpt.runtime import app


@dataclasses.dataclass(frozen=True)
class Config:
  hidden: int = 1
  size: int = option(2, 'how many')
  rate: float = option(0.5, 'how fast')
  name: str = option('a', 'called what')
  loud: bool = option(False, 'or not')
  parts: tuple[str, ...] = option((), 'of what')


@pytest.fixture
def values():
  values = flags.FlagValues()
  app.define_flags(values, Config)
  return values


def test_each_field_with_a_help_text_becomes_a_flag(values):
  assert set(values) == {'size', 'rate', 'name', 'loud', 'parts'}
  assert values['size'].help == 'how many (unless set by preset: 2)'


def test_explicit_flags_are_those_that_were_typed(values):
  app.parse_flags(values, ['p', '--size=2', '--noloud', '--rate=1e-3'])
  found = app.explicit_flags(values, Config)
  assert found == {'size': 2, 'loud': False, 'rate': 1e-3}
  assert type(found['size']) is int
  app.parse_flags(values, ['p', '--parts=a,b', '--parts=c'])
  assert app.explicit_flags(values, Config)['parts'] == ('a,b', 'c')


@pytest.mark.parametrize(
  ('argv', 'words'),
  [
    (['--sizes=2'], 'Did you mean: size'),
    (['--size=two'], 'flag --size=two'),
    (['two'], "unexpected argument 'two'"),
  ],
)
def test_wrong_flags_are_a_usage_error(values, argv, words):
  with pytest.raises(UsageError, match=words):
    app.parse_flags(values, ['p', *argv])


def test_arguments_are_returned_to_a_command_that_takes_them(values):
  argv = ['p', 'a', '--size=2', '--', '--b']
  assert app.parse_flags(values, argv, True) == ['p', 'a', '--b']


@pytest.mark.parametrize(
  ('error', 'code'),
  [
    (UsageError('a: it must be b'), 2),
    (InputError('a: no such file'), 1),
    (KeyboardInterrupt(), 130),
  ],
)
def test_an_error_is_one_line_and_a_code(error, code, capsys):
  def main():
    raise error

  assert app.exit_code(main) == code
  out, err = capsys.readouterr()
  assert out == '' and err.count('\n') == 1
  assert str(error) in err or code == 130


def test_a_command_returns_its_own_code_and_a_bug_its_traceback():
  assert app.exit_code(lambda: 3) == 3
  assert app.exit_code(lambda: None) == 0
  with pytest.raises(ZeroDivisionError):
    app.exit_code(lambda: 1 / 0)


@pytest.mark.parametrize('flush', [True, False])
def test_output_on_a_full_disk_is_one_line(flush):
  code = (
    'import sys\n'
    'from minigpt.runtime import app\n'
    f'sys.exit(app.exit_code(lambda: print("result", flush={flush})))\n'
  )
  with open('/dev/full', 'w') as full:
    done = subprocess.run(
      [sys.executable, '-c', code],
      cwd=helpers.ROOT,
      stdout=full,
      stderr=subprocess.PIPE,
      text=True,
    )
  assert done.returncode == 1
  [line] = done.stderr.splitlines()
  assert 'output could not be written (No space left on device)' in line
