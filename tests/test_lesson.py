"""Each script of the lesson prints what its chapter shows."""

import contextlib
import io
import os
import pathlib
import re
import runpy
import subprocess
import sys

import pytest

LESSON = pathlib.Path(__file__).parent.parent / 'docs' / 'lesson'
SCRIPTS = sorted(LESSON.glob('[1-9]_*.py'))


def blocks(path, language):
  text = path.read_text(encoding='utf-8')
  return re.findall(rf'```{language}\n(.*?)```', text, re.DOTALL)


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
  """A writable copy of what `python docs/lesson/SCRIPT` needs."""
  monkeypatch.chdir(tmp_path)
  monkeypatch.syspath_prepend(LESSON)
  return tmp_path


def printed_by(script):
  printed = io.StringIO()
  with contextlib.redirect_stdout(printed):
    runpy.run_path(str(script))
  return printed.getvalue()


@pytest.mark.parametrize('script', SCRIPTS, ids=lambda path: path.stem)
def test_a_script_prints_what_its_chapter_shows(script, folder, monkeypatch):
  pytest.importorskip('matplotlib')
  monkeypatch.setattr('sys.argv', [str(script), '--figure=figure.svg'])
  assert blocks(script.with_suffix('.md'), 'text') == [printed_by(script)]
  assert [path.name for path in folder.iterdir()] == ['figure.svg']
  # Compares pictures, as versions of matplotlib write different files.
  title = '<svg xmlns:xlink='
  shown = LESSON / 'images' / f'{script.stem}.svg'
  assert title in (folder / 'figure.svg').read_text(encoding='utf-8')
  assert title in shown.read_text(encoding='utf-8')


@pytest.mark.parametrize('script', SCRIPTS, ids=lambda path: path.stem)
def test_a_chapter_teaches(script):
  """Each has a formula, up-to-date quotes, a figure and two exercises."""
  import update

  text = script.with_suffix('.md').read_text(encoding='utf-8')
  assert update.with_quotes(text) == text
  assert '<!-- quote: minigpt/' in text
  # Quoted code is tested at its source: the package, or a solution.
  assert text.count('```python') == text.count('<!-- quote: ')
  assert text.count('$$') >= 2 and text.count('$') % 2 == 0
  assert f'](images/{script.stem}.svg)' in text
  exercises = text.partition('## Exercises')[2].partition('<details')[0]
  assert re.findall(r'^(\d)\. ', exercises, re.MULTILINE) == ['1', '2']
  assert f'<!-- quote: docs/lesson/solutions_{script.stem[0]}.py -->' in text


@pytest.mark.parametrize('script', SCRIPTS, ids=lambda path: path.stem)
def test_the_solutions_are_right(script, folder):
  """The solutions contain assertions."""
  source = LESSON / f'solutions_{script.stem[0]}.py'
  assert source.read_text(encoding='utf-8').count('assert') >= 2
  printed_by(source)
  assert list(folder.iterdir()) == []


def test_quoted_code_is_without_decorators_and_docstrings():
  import update

  source = """
class A:
  @property
  def size(self):
    '''Counts.

    At length.
    '''
    return 1

def size(x):
  return 2
"""
  assert update.function(source, 'size') == 'def size(x):\n  return 2\n'
  method = 'def size(self):\n  return 1\n'
  assert update.function(source, 'A.size') == method


def test_scripts_are_short_and_all_in_the_table():
  table = (LESSON / 'README.md').read_text(encoding='utf-8')
  assert len(SCRIPTS) == table.count('python docs/lesson/')
  for script in SCRIPTS:
    assert len(script.read_text(encoding='utf-8').splitlines()) < 75
    assert f'`python docs/lesson/{script.name}`' in table
    assert f']({script.stem}.md)' in table


def test_every_line_of_control_runs(tmp_path):
  found = blocks(LESSON / 'control.md', 'python')
  assert len(found) == 17
  script = tmp_path / 'control.py'
  script.write_text('\n'.join(found), encoding='utf-8')
  runpy.run_path(str(script))


def test_tensorflow_prints_nothing_of_its_own(tmp_path):
  kept = {k: v for k, v in os.environ.items() if k != 'TF_CPP_MIN_LOG_LEVEL'}
  done = subprocess.run(
    [sys.executable, LESSON / '3_embeddings.py'],
    cwd=tmp_path,
    env={**kept, 'PYTHONPATH': str(LESSON.parents[1])},
    capture_output=True,
    text=True,
  )
  assert (done.returncode, done.stderr) == (0, '')
