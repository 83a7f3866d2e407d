"""Pictures, drawn with matplotlib (the `viz` extra).

Shapes: L layers, H heads, T tokens.
"""

import importlib.util
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from minigpt.errors import InputError
from minigpt.training.metrics import read_metrics

FORMATS = '.png', '.svg', '.pdf'
_MOST_POINTS = 1000  # In a curve; more of them only blur it.


def can_draw() -> bool:
  return importlib.util.find_spec('matplotlib') is not None


def new_figure(width: float, height: float) -> Any:
  """A matplotlib figure without pyplot and its global state.

  Raises:
    InputError: matplotlib is not installed.
  """
  if not can_draw():
    raise InputError(
      "pictures need matplotlib: pip install 'minigpt[viz]', or "
      'pip install matplotlib'
    )
  from matplotlib.figure import Figure  # Optional, and slow to import.

  return Figure(figsize=(width, height), layout='constrained')


def curve(
  metrics: list[dict[str, Any]], key: str
) -> tuple[np.ndarray, np.ndarray]:
  """Steps and values of a metric; neighbours are averaged in a long run."""
  points = np.array([(m['step'], m[key]) for m in metrics if key in m])
  points = points.reshape(-1, 2)
  parts = np.array_split(points, max(1, min(len(points), _MOST_POINTS)))
  return tuple(np.array([part.mean(0) for part in parts if len(part)]).T)


_LOSSES = (
  ('train_loss', 'training', {'linewidth': 1, 'alpha': 0.8}),
  ('val_loss', 'validation', {'marker': 'o', 'markersize': 3}),
)


def losses(runs: Sequence[Path]) -> Any:
  """Loss curves of work directories, as a figure.

  One run has training and validation loss in one panel; several have a panel
  for each, where every run keeps its colour.

  Raises:
    InputError: a run has no metrics yet, or matplotlib is not installed.
  """
  n_panels = 1 if len(runs) == 1 else 2
  figure = new_figure(3 + 4 * n_panels, 4)
  panels = figure.subplots(
    1, n_panels, sharex=True, sharey=True, squeeze=False
  )[0]
  for i, run in enumerate(runs):
    metrics = read_metrics(run / 'metrics.jsonl')
    if not metrics:
      raise InputError(f'{run} holds no metrics.jsonl with a step in it')
    for j, (key, what, style) in enumerate(_LOSSES):
      points = curve(metrics, key)
      if points:
        color = f'C{j if n_panels == 1 else i % 10}'
        label = what if n_panels == 1 else run.name
        panels[j % n_panels].plot(*points, label=label, color=color, **style)
  for panel, (_, what, _) in zip(panels, _LOSSES, strict=False):
    panel.set_title(what if n_panels > 1 else runs[0].name)
    panel.set_xlabel('step')
    panel.grid(alpha=0.3)
    panel.legend()
  panels[0].set_ylabel('loss (nats per token)')
  return figure


def attention(
  weights: np.ndarray,
  labels: Sequence[str],
  layers: Sequence[int],
  heads: Sequence[int],
) -> Any:
  """Attention maps f32 [L, H, T, T], a row of the figure for each layer.

  Raises:
    InputError: matplotlib is not installed.
  """
  alone = len(layers) == len(heads) == 1
  # One map has room for its labels; in a grid only short prompts have it.
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
      places = range(len(labels)) if shows_labels else []
      names = labels if shows_labels else []
      # Dollar signs would be read as mathematics.
      names = [name.replace('$', r'\$') for name in names]
      axes.set_xticks(places, names, fontsize=7, rotation=90)
      axes.set_yticks(places, names, fontsize=7)
  figure.colorbar(image, ax=grid, label='attention weight', shrink=0.8)
  figure.supxlabel('looked at', fontsize=9)
  figure.supylabel('looking', fontsize=9)
  return figure


def save(figure: Any, path: Path) -> list[Path]:
  """Writes `path`, or `path`.png and `path`.svg where it names no format.

  Raises:
    InputError: the file cannot be written, or the format is unknown.
  """
  pictures = [path]
  if path.suffix not in FORMATS:
    pictures = [path.with_name(path.name + end) for end in ('.png', '.svg')]
  for picture in pictures:
    try:
      figure.savefig(picture, dpi=150)
    except OSError as error:
      raise InputError(f'{picture}: {error.strerror}') from None
  return pictures
