"""Figures of the curves of runs, from their metrics.jsonl.

Shapes: n points of a curve.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from minigpt.analysis import figures
from minigpt.errors import InputError
from minigpt.training.metrics import Record, read_metrics

_MOST_POINTS = 1000  # Points of a curve.
_OF_STEPS = {'linewidth': 1, 'alpha': 0.8}
_OF_EVALUATIONS = {'marker': 'o', 'markersize': 3}


class Line(NamedTuple):
  """A metric to draw."""

  key: str  # in metrics.jsonl
  label: str
  style: dict[str, Any]
  color: str = 'C0'  # used if only one run is drawn


class Panel(NamedTuple):
  """A plot: lines that share their axes."""

  title: str
  unit: str
  lines: tuple[Line, ...]
  is_log: bool = False
  look_for: str = ''


class _Run(NamedTuple):
  """A work directory's name and metrics."""

  name: str
  metrics: list[Record]


_NATS = 'nats per token'
_TRAIN_LOSS = Line('train_loss', 'training', _OF_STEPS)
_VAL_LOSS = Line('val_loss', 'validation', _OF_EVALUATIONS, 'C1')
# Only runs whose length is in epochs have these.
_TRAIN_ACCURACY = Line('train_eval_accuracy', 'training', _OF_EVALUATIONS)
_VAL_ACCURACY = Line('val_accuracy', 'validation', _OF_EVALUATIONS, 'C1')
_RATE = Panel(
  'learning rate',
  '',
  (Line('learning_rate', 'learning rate', {}),),
  look_for='a rise over the warm-up, then a fall to the last step; a run that '
  'was stopped before its time has not come down.',
)
# Logarithmic, as a spike may be a hundred times the rest.
_NORM = Panel(
  'gradient norm',
  'before clipping',
  (Line('grad_norm', 'gradient norm', _OF_STEPS),),
  is_log=True,
  look_for='a level that stays about the same; a norm that grows or jumps is '
  'training that becomes unstable: try a lower learning rate.',
)
# Panels for a single run.
PANELS = (
  Panel(
    'loss',
    _NATS,
    (_TRAIN_LOSS, _VAL_LOSS),
    look_for='a fall that flattens out; a training loss that rises means that '
    'the learning rate is too high, a validation loss that rises alone that '
    'the text is learned by heart.',
  ),
  Panel(
    'accuracy',
    'share of tokens',
    (_TRAIN_ACCURACY, _VAL_ACCURACY),
    look_for='a rise for as long as the validation loss falls; the share of '
    'tokens that the model held for the most likely.',
  ),
  _RATE,
  _NORM,
)
# Panels to compare several runs; the first two share a scale.
_MANY_RUNS = (
  Panel('training loss', _NATS, (_TRAIN_LOSS,)),
  Panel('validation loss', _NATS, (_VAL_LOSS,)),
  _RATE,
  _NORM,
)


def curve(
  metrics: list[Record], key: str, most: int = _MOST_POINTS
) -> tuple[np.ndarray, np.ndarray] | None:
  """Returns steps and values of a metric, f64 [n] each; None if it is absent.

  Neighbouring steps of a long run are averaged, so that n is at most `most`.
  """
  points = np.array([(m['step'], m[key]) for m in metrics if key in m])
  if not points.size:
    return None
  parts = np.array_split(points, min(len(points), most))
  steps, values = np.array([part.mean(0) for part in parts]).T
  return steps, values


def curves(runs: Sequence[str | Path]) -> Any:
  """Draws losses, learning rates and gradient norms of work directories.

  A single run has both losses in one panel, and its accuracy. Several runs have
  a panel for each loss, and each run has a colour. Panels without data are left
  out.

  Returns:
    A matplotlib figure.

  Raises:
    InputError: a run has no metrics yet, or matplotlib is not installed.
  """
  found = [_Run(figures.plain(Path(run).name), _read(run)) for run in runs]
  recorded = {key for run in found for m in run.metrics for key in m}
  panels = [
    panel
    for panel in (PANELS if len(runs) == 1 else _MANY_RUNS)
    if any(line.key in recorded for line in panel.lines)
  ]
  n_rows, n_columns = (len(panels) + 1) // 2, min(len(panels), 2)
  figure = figures.new_figure(1 + 4.5 * n_columns, 1 + 2.7 * n_rows)
  grid = figure.subplots(n_rows, n_columns, sharex=True, squeeze=False)
  for axes, panel in zip(grid.flat, panels, strict=False):
    _draw(axes, panel, found)
  for axes in grid.flat[len(panels) :]:
    axes.remove()
  if len(runs) > 1 and n_columns > 1:
    grid[0, 1].sharey(grid[0, 0])
  if len(runs) == 1:
    figure.suptitle(found[0].name)
  return figure


def _read(run: str | Path) -> list[Record]:
  metrics = read_metrics(Path(run) / 'metrics.jsonl')
  if not metrics:
    raise InputError(f'{run} holds no metrics.jsonl with a step in it')
  return metrics


def _draw(axes: Any, panel: Panel, runs: list[_Run]) -> None:
  """Draws a panel: all lines of a single run, or one line for each run."""
  alone = len(runs) == 1
  for i, run in enumerate(runs):
    for line in panel.lines:
      if points := curve(run.metrics, line.key):
        color = line.color if alone else f'C{i % 10}'
        label = line.label if alone else run.name
        axes.plot(*points, label=label, color=color, **line.style)
  axes.set_title(panel.title, fontsize=10)
  axes.set_ylabel(panel.unit)
  if panel.is_log:
    axes.set_yscale('log')
    figures.write_numbers_out(axes.yaxis)
  axes.grid(alpha=0.3)
  axes.set_xlabel('step')
  axes.tick_params(labelbottom=True)  # `sharex` labels only the lowest row.
  if len(axes.get_lines()) > 1:
    axes.legend(fontsize=8)
