"""The notebooks run, and are as their scripts write them."""

import importlib.util

import helpers
import pytest

jupytext = pytest.importorskip('jupytext')
nbformat = pytest.importorskip('nbformat')
pytest.importorskip('nbclient')
pytest.importorskip('ipykernel')
NOTEBOOKS = helpers.ROOT / 'docs' / 'notebooks'


@pytest.fixture(scope='module')
def update():
  """The script that makes the notebooks."""
  path = NOTEBOOKS / 'update.py'
  spec = importlib.util.spec_from_file_location('notebooks_update', path)
  module = importlib.util.module_from_spec(spec)
  spec.loader.exec_module(module)
  return module


@pytest.mark.parametrize('name', ['characters', 'gpt2'])
def test_a_notebook_is_its_script_and_runs(name, update):
  fresh = update.made_from(NOTEBOOKS / f'{name}.py')
  stored = nbformat.read(NOTEBOOKS / f'{name}.ipynb', as_version=4)
  cells = [
    [(c.cell_type, c.source) for c in nb.cells] for nb in (fresh, stored)
  ]
  assert cells[0] == cells[1], 'run `make notebooks`'
  printed = update.printed(update.run(fresh))
  shown = update.printed(stored)
  # Other processors may round differently, and so sample another text.
  assert [text.count('\n') for text in printed] == [
    text.count('\n') for text in shown
  ]
  if name == 'characters':
    check_characters(''.join(printed))


def check_characters(printed):
  """Checks the accuracy that the preset mini promises."""
  assert '82 characters' in printed and '38,528' in printed
  epochs = [line for line in printed.splitlines() if 'epoch' in line]
  assert len(epochs) == 10
  assert float(epochs[-1].rpartition(' ')[2]) >= 0.95
  greedy = next(
    line for line in printed.splitlines() if line.startswith('the ')
  )
  assert len(greedy) == len('the ') + 50


def test_every_notebook_is_in_the_table(update):
  table = (NOTEBOOKS / 'README.md').read_text(encoding='utf-8')
  for script in update.scripts():
    assert f']({script.stem}.ipynb)' in table and f']({script.name})' in table
