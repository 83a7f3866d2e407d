"""An inspection as one HTML page that needs nothing but itself."""

import base64
import html
import json
from importlib import resources
from typing import Any

import numpy as np

from minigpt.analysis.introspection import Inspection, TopTokens, label
from minigpt.tokenizers import Tokenizer


def render(found: Inspection, tokenizer: Tokenizer, title: str) -> str:
  """Returns the page; its template is `report.html` in this package."""
  page = (
    resources.files('minigpt.analysis')
    .joinpath('report.html')
    .read_text('utf-8')
  )
  data = json.dumps(page_data(found, tokenizer), separators=(',', ':'))
  # The only sequence that could end the element the data stands in.
  data = data.replace('<', '\\u003c')
  return page.replace('{{title}}', html.escape(title)).replace('{{data}}', data)


def page_data(found: Inspection, tokenizer: Tokenizer) -> dict[str, Any]:
  """Returns what the script of the page reads."""
  n_layers, n_heads, n_tokens, _ = found.attention.shape

  def labels(ids: np.ndarray) -> Any:  # A list for each dimension of ids.
    if ids.ndim:
      return [labels(part) for part in ids]
    return label(int(ids), tokenizer)

  def top(found: TopTokens) -> dict[str, Any]:
    return {
      'tokens': labels(found.ids),
      'probs': np.round(found.probs.astype(np.float64), 5).tolist(),
    }

  # The future is exactly zero, so only the lower triangle travels.
  row, column = np.tril_indices(n_tokens)
  past = found.attention[..., row, column]
  return {
    'layers': n_layers,
    'heads': n_heads,
    'ids': found.ids.tolist(),
    'tokens': labels(found.ids),
    'surprise': np.round(found.surprise.astype(np.float64), 4).tolist(),
    'next': top(found.next_tokens),
    'lens': top(TopTokens(*(part[..., :5] for part in found.lens))),
    'attention': base64.b64encode(past.astype('<f4').tobytes()).decode(),
  }
