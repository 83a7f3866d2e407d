"""A hook of MkDocs: formulas become MathML, which browsers draw themselves."""

import html
import re
from typing import Any

from latex2mathml.converter import convert

_FORMULA = re.compile(
  r'<(span|div) class="arithmatex">\\[(\[](.*?)\\[)\]]</\1>', re.DOTALL
)


def with_mathml(page: str) -> str:
  """Returns a page with MathML for every formula."""

  def draw(match: re.Match[str]) -> str:
    tag, latex = match[1], html.unescape(match[2])
    return convert(latex, display='block' if tag == 'div' else 'inline')

  return _FORMULA.sub(draw, page)


def on_page_content(content: str, **_: Any) -> str:
  return with_mathml(content)
