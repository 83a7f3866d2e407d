"""An inspection as one HTML page that needs nothing but itself."""

import base64
import html
import json
from importlib import resources
from typing import Any

import numpy as np

from minigpt.analysis.introspection import Inspection, Likeliest, label
from minigpt.tokenizers import Tokenizer


def render(found: Inspection, tokenizer: Tokenizer, title: str) -> str:
  """The page; `report.html` beside this module is its template."""
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
  """What the script of the page reads."""
  n_layers, n_heads, n_tokens, _ = found.attention.shape

  def labels(ids: np.ndarray) -> list:
    if ids.ndim:
      return [labels(part) for part in ids]
    return label(int(ids), tokenizer)

  def spoken(said: Likeliest) -> dict[str, Any]:
    return {
      'tokens': labels(said.ids),
      'probs': np.round(said.probs.astype(np.float64), 5).tolist(),
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
    'next': spoken(found.next_tokens),
    'lens': spoken(Likeliest(*(part[..., :5] for part in found.lens))),
    'attention': base64.b64encode(past.astype('<f4').tobytes()).decode(),
  }
