"""Makes the notebooks from their scripts, runs them, and stores the outputs.

python docs/notebooks/update.py
"""

from pathlib import Path

import jupytext
import nbformat
from jupyter_client import KernelManager
from nbclient import NotebookClient

NOTEBOOKS = Path(__file__).parent


def scripts() -> list[Path]:
  return sorted(set(NOTEBOOKS.glob('*.py')) - {Path(__file__)})


def made_from(script: Path) -> nbformat.NotebookNode:
  """Returns a script as a notebook that has not been run."""
  notebook = jupytext.read(script, fmt='py:percent')
  for i, cell in enumerate(notebook.cells):
    cell.id = f'cell-{i}'  # Or it would be another file each time.
  return notebook


def run(notebook: nbformat.NotebookNode) -> nbformat.NotebookNode:
  """Runs all cells; an error in one ends it."""
  kernel = KernelManager(transport='ipc')  # No port is opened.
  client = NotebookClient(
    notebook,
    km=kernel,
    timeout=300,
    record_timing=False,
    coalesce_streams=True,
  )
  try:
    client.execute()
  finally:
    kernel.shutdown_kernel(now=True)
  for cell in notebook.cells:
    if 'outputs' in cell:  # What goes to stderr are log lines of libraries.
      kept = [o for o in cell.outputs if o.get('name') != 'stderr']
      cell.outputs = kept
  return notebook


def printed(notebook: nbformat.NotebookNode) -> list[str]:
  """Returns what each cell of code prints."""
  return [
    ''.join(output.get('text', '') for output in cell.outputs)
    for cell in notebook.cells
    if cell.cell_type == 'code'
  ]


if __name__ == '__main__':
  for script in scripts():
    notebook = run(made_from(script))
    notebook.metadata.pop('language_info', None)  # The version of Python.
    nbformat.write(notebook, script.with_suffix('.ipynb'))
    print(script.with_suffix('.ipynb'))
