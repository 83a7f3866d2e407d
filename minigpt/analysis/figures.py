"""Figures, drawn with matplotlib (the `viz` extra).

Shapes: L layers, H heads, T tokens.
"""

import importlib.util
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from minigpt.errors import InputError, UsageError
from minigpt.runtime.atomic_io import check_writable, new_file

# The formats, with metadata that removes the date where a format has one.
_UNDATED: dict[str, dict[str, Any]] = {
  '.png': {},
  '.svg': {'Date': None},
  '.pdf': {'CreationDate': None},
}
FORMATS = tuple(_UNDATED)


def can_draw() -> bool:
  """Returns whether matplotlib is installed."""
  return importlib.util.find_spec('matplotlib') is not None


def new_figure(width: float, height: float) -> Any:
  """Returns a matplotlib figure, without pyplot and its global state.

  Raises:
    InputError: matplotlib is not installed.
  """
  _check_can_draw()
  from matplotlib.figure import Figure  # Optional, and slow to import.

  return Figure(figsize=(width, height), layout='constrained')


def _check_can_draw() -> None:
  if not can_draw():
    raise InputError(
      "pictures need matplotlib: pip install 'minigpt[viz]', or "
      'pip install matplotlib'
    )


def check_output(flag: str, path: str | Path) -> None:
  """Checks that a figure can be drawn and written, before the work for it.

  Args:
    flag: the flag that gave `path`, for error messages.
    path: the file.

  Raises:
    UsageError: the file's ending is not a known format.
    InputError: the file cannot be written, or matplotlib is not installed.
  """
  if Path(path).suffix not in FORMATS:
    raise UsageError(f'{flag}={path}: it must end in {", ".join(FORMATS)}')
  _check_can_draw()
  check_writable(path)


def attention(
  weights: np.ndarray,
  labels: Sequence[str],
  layers: Sequence[int],
  heads: Sequence[int],
) -> Any:
  """Draws attention maps, a row of the figure for each layer.

  Args:
    weights: f32 [L, H, T, T].
    labels: the T tokens as text.
    layers: indices of the layers to draw.
    heads: indices of the heads to draw.

  Returns:
    A matplotlib figure.

  Raises:
    InputError: matplotlib is not installed.
  """
  alone = len(layers) == len(heads) == 1
  # A single map has room for labels; a grid only if the prompt is short.
  shows_labels = alone or len(labels) <= 16
  side = max(1.6, 0.16 * len(labels)) if shows_labels else 1.6
  figure = new_figure(side * len(heads) + 1, side * len(layers) + 1)
  grid = figure.subplots(
    len(layers), len(heads), sharex=True, sharey=True, squeeze=False
  )
  for row, layer in zip(grid, layers, strict=True):
    for axes, head in zip(row, heads, strict=True):
      image = axes.imshow(weights[layer, head], vmin=0, vmax=1, cmap='Purples')
      axes.set_title(f'layer {layer}, head {head}', fontsize=8)
      _label_axes(axes, labels if shows_labels else [])
  figure.colorbar(image, ax=grid, label='attention weight', shrink=0.8)
  figure.supxlabel('looked at', fontsize=9)
  figure.supylabel('looking', fontsize=9)
  return figure


def bars(names: Sequence[str], values: Sequence[int], x: str, y: str) -> Any:
  """Draws a bar for each name.

  Args:
    names: of the bars, in order.
    values: heights of the bars.
    x: label of the horizontal axis.
    y: label of the vertical axis.

  Returns:
    A matplotlib figure.

  Raises:
    InputError: matplotlib is not installed.
  """
  figure = new_figure(6, 3.5)
  axes = figure.subplots()
  axes.bar(names, values)
  axes.set_xlabel(x)
  axes.set_ylabel(y)
  return figure


def plain(text: str) -> str:
  """Escapes `$`, with which matplotlib would begin mathematics."""
  return text.replace('$', r'\$')


def _label_axes(axes: Any, labels: Sequence[str]) -> None:
  names = [plain(name) for name in labels]
  axes.set_xticks(range(len(names)), names, fontsize=7, rotation=90)
  axes.set_yticks(range(len(names)), names, fontsize=7)


def write_numbers_out(axis: Any) -> None:
  """Labels a logarithmic axis with 0.5, 1, 2 ... instead of powers of ten."""

  def minor(value: float, _: object) -> str:
    return f'{value:,g}' if f'{value:e}'[0] in '25' else ''

  axis.set_major_formatter(lambda value, _: f'{value:,g}')
  axis.set_minor_formatter(minor)


def save(figure: Any, path: str | Path) -> list[Path]:
  """Writes `path`, or `path`.png and `path`.svg if it has no known ending.

  The same figure gives the same bytes, so a file under version control changes
  only if the figure does.

  Raises:
    InputError: the file cannot be written, or the format is unknown.
  """
  import matplotlib as mpl  # Optional, and slow to import.

  path = Path(path)
  pictures = [path]
  if path.suffix not in FORMATS:
    pictures = [path.with_name(path.name + end) for end in ('.png', '.svg')]
  for picture in pictures:
    # Atomically; this also replaces a link instead of writing through it.
    options = {'dpi': 150, 'metadata': _UNDATED[picture.suffix]}
    with (
      new_file(picture) as scratch,
      mpl.rc_context({'svg.hashsalt': 'minigpt'}),
    ):
      figure.savefig(scratch, format=picture.suffix[1:], **options)
  return pictures
