"""All commands: help, flags and imports."""

import importlib
import re
import subprocess
import sys

import helpers
import pytest
from absl import flags

from minigpt import commands
from minigpt.errors import InputError
from minigpt.http_server import chat_template

ROOT = helpers.ROOT


def started(*command, **options):
  return subprocess.run(
    [sys.executable, *command], capture_output=True, text=True, **options
  )


def flags_of(command):
  module = commands.module_name(command)
  return importlib.import_module(f'minigpt.commands.flags.{module}').FLAGS


@pytest.mark.parametrize('command', commands.COMMANDS)
def test_help_lists_every_flag_without_tensorflow(command):
  """Hides the modules, as a slow import would otherwise go unnoticed."""
  code = f"""
import sys
sys.modules['tensorflow'] = None
sys.argv = ['minigpt', {command!r}, '--help']
from minigpt.__main__ import main
main()
"""
  done = started('-c', code, cwd=ROOT)
  assert (done.returncode, done.stderr) == (0, '')
  shown = set(re.findall(r'^  --(?:\[no\])?(\w+)', done.stdout, re.MULTILINE))
  assert shown == set(flags_of(command))
  assert f'python -m minigpt {command} ' in done.stdout


def test_full_help_has_the_flags_of_absl_too():
  done = started('train.py', '--helpfull', cwd=ROOT)
  assert done.returncode == 0
  assert '--batch_size' in done.stdout and '--verbosity' in done.stdout


def test_importing_modules_changes_nothing_in_any_order():
  """All into one process, those that depend on the others first.

  It lacks what Windows lacks, so nothing of that is needed for an import.
  """
  code = """
import gc, importlib, os, pkgutil, signal, sys
import tensorflow  # It sets variables of its own.
import minigpt
sys.modules.update(
  fcntl=None, grp=None, pwd=None, resource=None, termios=None
)
for name in ('HUP', 'QUIT', 'USR1', 'USR2', 'XCPU', 'KILL'):
  delattr(signal, f'SIG{name}')
for name in ('fork', 'getuid', 'killpg', 'sched_getaffinity', 'sysconf'):
  delattr(os, name)
def state():
  return dict(os.environ), gc.get_freeze_count(), signal.getsignal(2)
before = state()
found = pkgutil.walk_packages(minigpt.__path__, 'minigpt.')
for name in sorted((module.name for module in found), reverse=True):
  importlib.import_module(name)
assert state() == before
from minigpt.errors import InputError
from minigpt.profiling import machine
from minigpt.runtime import lock
assert machine.describe()['cores'] == os.cpu_count()
try:
  with lock.held('run', 'workdir'):
    pass
except InputError as error:
  assert 'no flock; use Linux' in str(error)
else:
  raise AssertionError('a run without a lock')
"""
  done = started('-c', code, cwd=ROOT)
  assert done.returncode == 0, done.stderr


@pytest.mark.parametrize('argv', [[], ['--help'], ['-h']])
def test_without_a_command_all_are_listed(argv):
  done = started('-m', 'minigpt', *argv, cwd=ROOT)
  assert (done.returncode, done.stderr) == (0, '')
  found = re.findall(r'^  (\S+) +[A-Z].*\.$', done.stdout, re.MULTILINE)
  assert found == list(commands.COMMANDS)


def test_an_unknown_command_is_named_and_all_are_listed():
  done = started('-m', 'minigpt', 'trian', cwd=ROOT)
  assert (done.returncode, done.stdout) == (2, '')
  first, *rest = done.stderr.splitlines()
  assert "unknown command 'trian': did you mean 'train'?" in first
  assert sum(line.startswith('  ') for line in rest) == len(commands.COMMANDS)


@pytest.mark.parametrize(
  ('argv', 'words'),
  [
    (['serve_check'], 'minigpt serve-check: give --export_dir'),
    (['plan', '--worker=2'], 'plan: Unknown command line flag'),
    (['plan', '2'], "plan: unexpected argument '2'"),
    (['plots'], 'plots: name at least one work directory'),
  ],
)
def test_wrong_usage_is_one_line(argv, words):
  done = helpers.run('-m', 'minigpt', *argv)
  assert done.returncode == 2
  [line] = done.stderr.splitlines()
  assert line.startswith(words) or words in line


@pytest.mark.parametrize('script', ['train.py', 'export.py', 'serve_check.py'])
def test_scripts_of_the_checkout_are_commands(script):
  done = helpers.run(script)
  assert done.returncode == 2
  assert done.stderr.startswith(f'{script}: ')


@pytest.mark.parametrize('missing', ['absl', 'tensorflow', 'numpy'])
@pytest.mark.parametrize('command', ['train.py', '-m minigpt convert'])
def test_a_python_without_the_dependencies_is_told_to_install(
  command, missing, tmp_path
):
  (tmp_path / 'sitecustomize.py').write_text(
    f'import sys\nsys.modules[{missing!r}] = None\n'
  )
  paths = {'PYTHONPATH': f'{tmp_path}:{ROOT}', 'PATH': ''}
  argv = ['--workdir=w', '--dry_run'] if command == 'train.py' else []
  done = started(*command.split(), *argv, cwd=ROOT, env=paths)
  assert done.returncode == 1
  [line] = done.stderr.splitlines()
  assert f'has no {missing};' in line and 'pip install' in line


def test_the_names_of_the_dependencies_are_those_of_setup_cfg():
  from minigpt import __main__

  text = (ROOT / 'setup.cfg').read_text()
  block = re.search(r'install_requires =\n((?:  .*\n)+)', text)[1]
  names = re.findall(r'^  ([a-z][\w-]*)', block, re.MULTILINE)
  imported = {n.replace('-', '_') for n in names} - {'absl_py'} | {'absl'}
  assert imported == set(__main__._REQUIRED)


def test_flags_of_commands_are_apart_from_those_of_the_process():
  before = set(flags.FLAGS)
  for command in commands.COMMANDS:
    flags_of(command)
  assert set(flags.FLAGS) == before


def test_without_its_libraries_the_server_names_its_extra(monkeypatch, capsys):
  line = "pip install 'minigpt[serve]'"
  for name in ('uvicorn', 'jinja2', 'jinja2.sandbox'):
    monkeypatch.setitem(sys.modules, name, None)
  monkeypatch.delitem(sys.modules, 'minigpt.http_server.run', raising=False)
  monkeypatch.delattr('minigpt.http_server.run', raising=False)
  assert helpers.run_here('serve', '--export_dir=models') == 1
  assert line in capsys.readouterr().err
  with pytest.raises(InputError, match=re.escape(line)):
    chat_template.load('a.jinja')
