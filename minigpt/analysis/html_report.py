"""Writes an inspection as a self-contained HTML page."""

import base64
import html
import json
from collections.abc import Sequence
from importlib import resources
from typing import Any

import numpy as np

from minigpt.analysis.introspection import (
  Inspection,
  TopTokens,
  head_habits,
  label,
)
from minigpt.analysis.run_figures import PANELS, Panel, curve
from minigpt.tokenizers import Tokenizer
from minigpt.training.metrics import Record

_POINTS = 300  # Points of a curve.


def render(
  found: Inspection,
  tokenizer: Tokenizer,
  title: str,
  metrics: Sequence[Record] = (),
) -> str:
  """Returns the page; its template is `report.html` in this package.

  Args:
    found: the inspection.
    tokenizer: of the model.
    title: of the page.
    metrics: records of the run, for its curves; without them, none are shown.
  """
  page = (
    resources.files('minigpt.analysis')
    .joinpath('report.html')
    .read_text('utf-8')
  )
  shown = page_data(found, tokenizer) | {'run': run_data(metrics)}
  data = json.dumps(shown, separators=(',', ':'))
  # Without `<`, the data cannot contain a tag that ends the script element.
  data = data.replace('<', '\\u003c')
  return page.replace('{{title}}', html.escape(title)).replace('{{data}}', data)


def page_data(found: Inspection, tokenizer: Tokenizer) -> dict[str, Any]:
  """Returns the data that the page's script reads."""
  n_layers, n_heads, n_tokens, _ = found.attention.shape

  def labels(ids: np.ndarray) -> Any:  # A list for each dimension of ids.
    if ids.ndim:
      return [labels(part) for part in ids]
    return label(int(ids), tokenizer)

  def top(found: TopTokens) -> dict[str, Any]:
    return {'tokens': labels(found.ids), 'probs': _rounded(found.probs, 5)}

  # Weights of the future are zero, so store only the lower triangle.
  row, column = np.tril_indices(n_tokens)
  past = found.attention[..., row, column]
  return {
    'layers': n_layers,
    'heads': n_heads,
    'ids': found.ids.tolist(),
    'tokens': labels(found.ids),
    'surprise': _rounded(found.surprise, 4),
    'next': top(found.next_tokens),
    'lens': top(TopTokens(*(part[..., :5] for part in found.lens))),
    'norms': _rounded(found.norms, 3),
    'habits': {
      name: _rounded(weight, 3)
      for name, weight in head_habits(found.attention).items()
    },
    'attention': base64.b64encode(past.astype('<f4').tobytes()).decode(),
  }


def run_data(metrics: Sequence[Record]) -> list[dict[str, Any]]:
  """Returns the curves of a run; an empty list if it has no metrics."""
  panels = [(panel, _lines(panel, list(metrics))) for panel in PANELS]
  return [
    {
      'title': panel.title,
      'unit': panel.unit,
      'log': panel.is_log,
      'look': panel.look_for,
      'lines': lines,
    }
    for panel, lines in panels
    if lines
  ]


def _lines(panel: Panel, metrics: list[Record]) -> list[dict[str, Any]]:
  found = [(line, curve(metrics, line.key, _POINTS)) for line in panel.lines]
  return [
    {
      'label': line.label,
      'color': line.color,
      'steps': _rounded(points[0], 1),
      'values': [float(f'{value:.5g}') for value in points[1]],
    }
    for line, points in found
    if points
  ]


def _rounded(values: np.ndarray, digits: int) -> Any:
  return np.round(values.astype(np.float64), digits).tolist()
