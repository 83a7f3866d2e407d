"""The lesson does what it says: each script prints what its chapter shows."""

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


@pytest.mark.parametrize('script', SCRIPTS, ids=lambda path: path.stem)
def test_a_script_prints_what_its_chapter_shows(script, tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)
  monkeypatch.syspath_prepend(LESSON)  # As `python SCRIPT` does.
  printed = io.StringIO()
  with contextlib.redirect_stdout(printed):
    runpy.run_path(str(script))
  assert blocks(script.with_suffix('.md'), 'text') == [printed.getvalue()]


def test_scripts_are_short_and_all_in_the_table():
  table = (LESSON / 'README.md').read_text(encoding='utf-8')
  assert len(SCRIPTS) == table.count('python docs/lesson/')
  for script in SCRIPTS:
    assert len(script.read_text(encoding='utf-8').splitlines()) < 60
    assert f'`python docs/lesson/{script.name}`' in table
    assert f']({script.stem}.md)' in table


def test_every_line_of_control_runs(tmp_path):
  found = blocks(LESSON / 'control.md', 'python')
  assert len(found) == 17
  script = tmp_path / 'control.py'
  script.write_text('\n'.join(found), encoding='utf-8')
  runpy.run_path(str(script))


@pytest.mark.parametrize('script', ['3_embeddings.py', '4_attention.py'])
def test_tensorflow_prints_nothing_of_its_own(script, tmp_path):
  kept = {k: v for k, v in os.environ.items() if k != 'TF_CPP_MIN_LOG_LEVEL'}
  done = subprocess.run(
    [sys.executable, LESSON / script],
    cwd=tmp_path,
    env={**kept, 'PYTHONPATH': str(LESSON.parents[1])},
    capture_output=True,
    text=True,
  )
  assert (done.returncode, done.stderr) == (0, '')
