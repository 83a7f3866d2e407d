"""A wheel installed in another directory does all that a checkout does."""

import configparser
import os
import re
import shutil
import subprocess
import sys
import zipfile

import helpers
import pytest

SOURCES = ('minigpt', 'setup.cfg', 'pyproject.toml', 'README.md', 'LICENSE')
BUILD = """
import sys
from setuptools import build_meta
print(build_meta.build_wheel(sys.argv[1]))
"""
TINY = [f'--{name}={value}' for name, value in helpers.TINY.items()]


@pytest.fixture(scope='module')
def site(tmp_path_factory):
  """The content of a wheel; built from a copy of the checkout."""
  pytest.importorskip('setuptools')
  copy, wheels, site = map(tmp_path_factory.mktemp, ('copy', 'wheels', 'site'))
  for name in SOURCES:
    source = helpers.ROOT / name
    if source.is_dir():
      ignored = shutil.ignore_patterns('__pycache__')
      shutil.copytree(source, copy / name, ignore=ignored)
    else:
      shutil.copy(source, copy)
  command = [sys.executable, '-c', BUILD, wheels]
  subprocess.run(command, cwd=copy, check=True, capture_output=True)
  [wheel] = wheels.glob('*.whl')
  zipfile.ZipFile(wheel).extractall(site)
  return site


def run(site, folder, *argv):
  """Runs `python -m minigpt` of the wheel in another folder."""
  done = subprocess.run(
    [sys.executable, '-m', 'minigpt', *argv],
    cwd=folder,
    env={**os.environ, 'PYTHONPATH': str(site)},
    capture_output=True,
    text=True,
  )
  assert done.returncode == 0, done.stderr
  return done.stdout


def test_it_holds_all_files_and_the_console_script(site):
  def names(folder):
    return {
      str(path.relative_to(folder))
      for path in folder.rglob('*')
      if path.is_file() and '__pycache__' not in path.parts
    }

  assert names(site / 'minigpt') == names(helpers.ROOT / 'minigpt')
  [metadata] = site.glob('*.dist-info')
  scripts = (metadata / 'entry_points.txt').read_text().split()
  assert 'minigpt=minigpt.__main__:main' in ''.join(scripts)


def test_its_commands_work_from_another_directory(site, tmp_path):
  assert 'serve-check' in run(site, tmp_path, '--help')
  workers = ['launch', '--workers=1', '--']
  run(site, tmp_path, *workers, 'train', '--workdir=run', *TINY)
  flags = ['--workdir=run', '--max_new_tokens=4']
  assert run(site, tmp_path, 'generate', '--prompt=the', *flags)
  assert [path.name for path in tmp_path.iterdir()] == ['run']


def test_dev_has_all_that_other_extras_have_and_a_page_names_each():
  setup = configparser.ConfigParser()
  setup.read(helpers.ROOT / 'setup.cfg', encoding='utf-8')
  extras = {
    name: {line for line in lines.splitlines() if line and line[0] != '#'}
    for name, lines in setup['options.extras_require'].items()
  }
  page = (helpers.ROOT / 'docs/install.md').read_text(encoding='utf-8')
  assert set(re.findall(r'^\| `(\w+)` \|', page, re.MULTILINE)) == set(extras)
  dev = extras.pop('dev')
  assert {name: needs - dev for name, needs in extras.items()} == {
    name: set() for name in extras
  }
