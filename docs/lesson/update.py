"""Brings the chapters up to date: quoted code, printed output, figures.

  python docs/lesson/update.py

A comment above a block says what the block is made of: `<!-- quote: FILE NAME
... -->` quotes these functions (a method as Class.name) without their
docstrings, or the whole file; `<!-- output -->` is what the chapter's script
prints.
"""

import ast
import re
import subprocess
import sys
from pathlib import Path

LESSON = Path(__file__).parent
ROOT = LESSON.parents[1]
# It keeps TensorFlow quiet, and explains nothing.
_QUIET = 'import quiet  # noqa: F401, I001\n\n'
_QUOTE = re.compile(r'(<!-- quote: (\S+)(.*) -->\n```python\n)(?:.*\n)*?```\n')
_OUTPUT = re.compile(r'(<!-- output -->\n```text\n)(?:.*\n)*?```\n')


def chapters() -> list[Path]:
  return sorted(LESSON.glob('[0-9]*_*.md'))


def with_quotes(text: str) -> str:
  """Returns a chapter with the code that it quotes as the code is now."""

  def quote(match: re.Match[str]) -> str:
    begin, file, names = match.groups()
    source = (ROOT / file).read_text(encoding='utf-8')
    wanted = [function(source, name) for name in names.split()]
    code = '\n\n'.join(wanted) or source.replace(_QUIET, '')
    return f'{begin}{code}```\n'

  return _QUOTE.sub(quote, text)


def function(source: str, name: str) -> str:
  """Returns the lines of a function, without decorators and docstring."""
  node: ast.Module | ast.ClassDef | ast.FunctionDef = ast.parse(source)
  for part in name.split('.'):
    defined = ast.ClassDef | ast.FunctionDef
    [node] = [n for n in node.body if isinstance(n, defined) and n.name == part]
  lines = source.splitlines(keepends=True)
  head, body = node.body[0].lineno - 1, node.body[0].lineno - 1
  if ast.get_docstring(node):
    body = node.body[0].end_lineno
  quoted = lines[node.lineno - 1 : head] + lines[body : node.end_lineno]
  indent = len(quoted[0]) - len(quoted[0].lstrip())
  return ''.join(line[indent:] or '\n' for line in quoted)


def with_output(text: str, printed: str) -> str:
  """Returns a chapter with what its script prints now."""
  return _OUTPUT.sub(lambda match: f'{match[1]}{printed}```\n', text)


def run(script: Path, figure: Path) -> str:
  """Runs a chapter's script; returns what it prints."""
  command = [sys.executable, script, f'--figure={figure}']
  return subprocess.run(
    command, cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True
  ).stdout


if __name__ == '__main__':
  for chapter in chapters():
    figure = LESSON / 'images' / f'{chapter.stem}.svg'
    printed = run(chapter.with_suffix('.py'), figure)
    text = with_quotes(chapter.read_text(encoding='utf-8'))
    chapter.write_text(with_output(text, printed), encoding='utf-8')
    print(chapter.relative_to(ROOT))
