"""Figures of the results of `minigpt evaluate`.

Shapes: T tokens in each window.
"""

import contextlib
import json
import math
from pathlib import Path
from typing import Any

import numpy as np

from minigpt.analysis import figures
from minigpt.analysis.perplexity import PositionSums

_Z = 1.96  # Standard errors on each side of a mean, for a 95% interval.
_MOST_POINTS = 40  # Points of a curve by position; neighbours share a point.
# Results that are shares of the examples, and the suffixes of their names.
_SHARES = {
  'accuracy': '',
  'accuracy_norm': ' by length',
  'exact_match': ' exact',
}


def loss_by_position(sums: PositionSums, title: str) -> Any:
  """Draws the mean loss of tokens by the number of tokens before them.

  The curve falls as long as the model uses more context (Kaplan et al. 2020,
  appendix D.5). The band is the mean's 95% interval, if tokens were
  independent.

  Returns:
    A matplotlib figure.

  Raises:
    InputError: matplotlib is not installed.
  """
  figure = figures.new_figure(7, 4)
  axes = figure.subplots()
  seen, mean, error = position_curve(sums)
  axes.fill_between(seen, mean - error, mean + error, alpha=0.25, linewidth=0)
  axes.plot(seen, mean, marker='o', markersize=3)
  overall = sums.evaluation().loss
  axes.axhline(
    overall, color='gray', linestyle='--', label=f'mean {overall:.3f}'
  )
  if seen[-1] > 4 * seen[0]:  # On a shorter one, log ticks show no number.
    axes.set_xscale('log', base=2)
    axes.xaxis.set_major_formatter(lambda value, _: f'{value:,g}')
  axes.set_title(figures.plain(title), fontsize=10)
  axes.set_xlabel('tokens before the predicted one, in its window')
  axes.set_ylabel('loss (nats per token)')
  axes.grid(alpha=0.3)
  axes.legend()
  return figure


def position_curve(
  sums: PositionSums,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
  """Returns tokens before, mean loss and 1.96 standard errors, f64 [n] each.

  A point averages neighbouring positions, the more the further right it is.
  Where windows overlap, only the first window scores the early positions; these
  are left out, as they have too few tokens.
  """
  n_positions = len(sums.loss)
  edges = np.geomspace(1, n_positions + 1, _MOST_POINTS + 1)
  first = np.unique(edges[:-1].astype(int)) - 1
  loss, squared, _, n = (np.add.reduceat(part, first) for part in sums)
  widths = np.diff([*first, n_positions])
  kept = n / widths >= sums.n_tokens.max() / 2
  mean = loss[kept] / n[kept]
  variance = np.maximum(squared[kept] / n[kept] - mean**2, 0)
  error = _Z * np.sqrt(variance / np.maximum(n[kept] - 1, 1))
  # The mean number of tokens before the positions of each point.
  return (first + (widths + 1) / 2)[kept], mean, error


def newest(file: Path, checkpoint: str | None) -> list[dict[str, Any]]:
  """Returns the newest results of each task and data set of one checkpoint.

  Args:
    file: evaluations.jsonl; damaged lines are ignored.
    checkpoint: name of the checkpoint; None: of a model without checkpoints.
  """
  found = {}
  for line in file.read_text('utf-8', errors='replace').splitlines():
    with contextlib.suppress(ValueError, KeyError, TypeError):
      record = json.loads(line)
      if record['checkpoint'] == checkpoint and record['examples']:
        found[record['task'], record['dataset']] = record
  return list(found.values())


def accuracies(records: list[dict[str, Any]], title: str) -> Any:
  """Draws the share of right answers of each task, with its uncertainty.

  Args:
    records: results on examples, as `newest` returns them.
    title: of the figure.

  Returns:
    A matplotlib figure.

  Raises:
    InputError: matplotlib is not installed.
  """
  rows = [
    (_row_name(record, share), record[share], record)
    for record in records
    for share in _SHARES
    if share in record
  ]
  figure = figures.new_figure(7, 1.2 + 0.5 * len(rows))
  axes = figure.subplots()
  for y, (_, share, record) in enumerate(rows):
    _draw_share(axes, y, share, record)
  axes.set_yticks(range(len(rows)), [name for name, *_ in rows], fontsize=8)
  axes.set_ylim(len(rows) - 0.4, -0.6)
  axes.set_xlim(-0.02, 1.02)
  axes.xaxis.set_major_formatter(lambda value, _: f'{value:.0%}')
  axes.set_title(figures.plain(title), fontsize=10)
  chance = ' (gray: by chance)' if any('chance' in r for r in records) else ''
  axes.set_xlabel(f'right answers, with their 95% interval{chance}')
  axes.grid(alpha=0.3, axis='x')
  return figure


def _draw_share(
  axes: Any, y: int, share: float, record: dict[str, Any]
) -> None:
  """Draws one row: the share, its interval, and the share of guessing."""
  low, high = wilson_interval(share, record['examples'])
  spread = [[share - low], [high - share]]
  axes.errorbar([share], [y], xerr=spread, fmt='o', color='C0', capsize=4)
  # The label goes right of the interval, or left if there is no room.
  end, offset, ha = (high, 6, 'left') if high < 0.9 else (low, -6, 'right')
  axes.annotate(
    f'{share:.1%}',
    (end, y),
    (offset, 0),
    textcoords='offset points',
    ha=ha,
    va='center',
    fontsize=8,
  )
  if 'chance' in record:
    axes.plot([record['chance']], [y], '|', color='gray', markersize=14)


def _row_name(record: dict[str, Any], share: str) -> str:
  name = f'{record["task"]}{_SHARES[share]}'
  data = figures.plain(Path(record['dataset']).name)
  return f'{name}\n{data}, n = {record["examples"]:,}'


def wilson_interval(share: float, n: int) -> tuple[float, float]:
  """Returns the 95% interval of a share of n examples (Wilson 1927)."""
  middle = share + _Z**2 / (2 * n)
  half = _Z * math.sqrt(share * (1 - share) / n + _Z**2 / (4 * n**2))
  whole = 1 + _Z**2 / n
  # Rounding could put a share of 0 or 1 just outside of its interval.
  low = (middle - half) / whole if share > 0 else 0.0
  high = (middle + half) / whole if share < 1 else 1.0
  return low, high
