"""An extension of griffe: lists in docstrings of modules stay lists.

A paragraph whose lines are all indented shows names with what they are, or
commands. Markdown would join its lines into one sentence.
"""

import re
from typing import Any

import griffe


def with_listings(text: str) -> str:
  """Returns a docstring with its indented paragraphs as blocks of code."""
  paragraphs = re.split(r'\n{2,}', text)
  return '\n\n'.join(map(_as_block, paragraphs))


def _as_block(paragraph: str) -> str:
  if not all(line.startswith('  ') for line in paragraph.split('\n')):
    return paragraph
  return f'```text\n{re.sub("^  ", "", paragraph, flags=re.MULTILINE)}\n```'


class Listings(griffe.Extension):
  """Changes the docstring of each module as it is loaded."""

  def on_module_instance(self, *, mod: griffe.Module, **_: Any) -> None:
    if mod.docstring:
      mod.docstring.value = with_listings(mod.docstring.value)
