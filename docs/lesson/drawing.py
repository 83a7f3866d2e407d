"""The figure of a chapter, drawn where --figure names a file for it.

python docs/lesson/4_attention.py --figure=attention.svg
"""

import sys
from pathlib import Path
from typing import Any

import numpy as np

from minigpt.analysis import figures


def path() -> Path | None:
  """Returns the file that the command line names."""
  for argument in sys.argv[1:]:
    if argument.startswith('--figure='):
      return Path(argument.partition('=')[2])
  return None


def new(width: float, height: float, n_panels: int = 1) -> tuple[Any, list]:
  """Returns a figure and its panels, side by side."""
  figure = figures.new_figure(width, height)
  return figure, list(figure.subplots(1, n_panels, squeeze=False)[0])


def save(figure: Any) -> None:
  figures.save(figure, path())


def matrix(panel: Any, values: np.ndarray, title: str, labels=()) -> None:
  """Shows numbers as colours, white at 0."""
  limit = np.abs(values).max()
  panel.imshow(values, vmin=-limit, vmax=limit, cmap='RdBu', aspect='auto')
  panel.set_title(title, fontsize=9)
  panel.set_xticks([])
  panel.set_yticks(range(len(labels)), labels, fontsize=8)
