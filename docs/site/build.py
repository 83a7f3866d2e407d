"""Builds the site of the documentation: build/docs/index.html.

  python docs/site/build.py

MkDocs wants its pages in one folder. They are laid out there as they lie in
the repository, so links between them stay as they are; links to code lead to
the page of its module.
"""

import logging
import os
import re
import shutil
from pathlib import Path

import nbformat
from mkdocs.commands.build import build
from mkdocs.config import load_config

ROOT = Path(__file__).resolve().parents[2]
CONFIG = Path(__file__).with_name('mkdocs.yml')
PAGES = ('*.md', 'docs/**/*', 'benchmarks/*.md', 'examples/**/*.md')
KEPT = {'.md', '.svg', '.png', '.css', '.ipynb', '.yaml', '.py'}
_LINK = re.compile(r'(!?\[[^\]]*\])\(([^)#:\s]+)(#[^)]*)?\)')


def pages() -> list[Path]:
  """Returns the files of the site, relative to the root."""
  found = {path for pattern in PAGES for path in ROOT.glob(pattern)}
  return sorted(
    path.relative_to(ROOT)
    for path in found
    if path.suffix in KEPT and path.is_file()
  )


def lay_out(folder: Path) -> None:
  """Copies all pages there, and writes the reference of each package."""
  shutil.rmtree(folder, ignore_errors=True)
  for path in pages():
    target = folder / path
    target.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == '.md':
      text = (ROOT / path).read_text(encoding='utf-8')
      target.write_text(with_links(text, path), encoding='utf-8')
    elif path.suffix == '.ipynb':
      text = notebook(ROOT / path)
      page = path.with_suffix('.md')
      (folder / page).write_text(with_links(text, page), encoding='utf-8')
    else:
      shutil.copy(ROOT / path, target)
  for package in packages():
    page = folder / 'reference' / f'{package}.md'
    page.parent.mkdir(exist_ok=True)
    page.write_text(reference(package), encoding='utf-8')


def with_links(text: str, page: Path) -> str:
  """Returns a page whose links to code lead to where it is on the site."""

  def link(match: re.Match[str]) -> str:
    name, target, anchor = match[1], match[2], match[3] or ''
    path = Path(os.path.normpath(page.parent / target))
    if (found := on_site(path)) is None:
      return name.strip('[]')  # Code that the site does not show.
    return f'{name}({os.path.relpath(found, page.parent)}{anchor})'

  parts = re.split(r'(^```.*?^```$)', text, flags=re.DOTALL | re.MULTILINE)
  parts[::2] = [_LINK.sub(link, part) for part in parts[::2]]
  return ''.join(parts)


def on_site(path: Path) -> Path | None:
  """Returns the page of what a link of the repository leads to."""
  if path.parts[:1] == ('minigpt',):
    return Path('reference', f'{(*path.parts, "api")[1]}.md')
  if path.suffix == '.ipynb':
    return path.with_suffix('.md')
  is_page = path.suffix in KEPT and (ROOT / path).is_file()
  return path if is_page else None


def packages() -> list[str]:
  found = (ROOT / 'minigpt').glob('*/__init__.py')
  return ['api', 'errors', *sorted(path.parent.name for path in found)]


def reference(package: str) -> str:
  """Returns a page that documents each module of a package."""
  folder = ROOT / 'minigpt' / package
  names = [f'minigpt.{package}']
  if folder.is_dir():
    modules = sorted(path.stem for path in folder.glob('[!_]*.py'))
    names += [f'minigpt.{package}.{module}' for module in modules]
  blocks = '\n'.join(f'::: {name}\n' for name in names)
  return f'# minigpt.{package}\n\n{blocks}'


def notebook(path: Path) -> str:
  """Returns a notebook as a page: its cells, and what they printed."""
  blocks = []
  for cell in nbformat.read(path, as_version=4).cells:
    if cell.cell_type == 'markdown':
      blocks.append(cell.source)
    else:
      blocks.append(f'```python\n{cell.source}\n```')
      printed = ''.join(output.get('text', '') for output in cell.outputs)
      if printed:
        blocks.append(f'```text\n{printed.rstrip()}\n```')
  return '\n\n'.join(blocks) + '\n'


def navigation(listed: list) -> list:
  """Returns the list of mkdocs.yml with the pages that scripts know."""
  chapters = [
    f'docs/lesson/{path.name}'
    for path in sorted((ROOT / 'docs/lesson').glob('[0-9]*.md'))
  ]
  lists = {
    'LESSON': [
      'docs/lesson/README.md',
      *chapters,
      'docs/lesson/control.md',
    ],
    'NOTEBOOKS': [
      'docs/notebooks/README.md',
      *(
        f'docs/notebooks/{path.stem}.md'
        for path in sorted((ROOT / 'docs/notebooks').glob('*.ipynb'))
      ),
    ],
    'MODULES': [{name: f'reference/{name}.md'} for name in packages()],
  }

  def fill(item):
    if isinstance(item, list):
      return [fill(each) for each in item]
    if isinstance(item, dict):
      return {name: fill(each) for name, each in item.items()}
    return lists.get(item, item)

  return fill(listed)


def make(source: Path, site: Path) -> None:
  """Lays out the sources, and builds the site; a broken link ends it."""
  lay_out(source)
  config = load_config(str(CONFIG), docs_dir=str(source), site_dir=str(site))
  config.nav = navigation(config.nav)
  build(config)


if __name__ == '__main__':
  logging.basicConfig(level=logging.WARNING, format='%(message)s')
  made = ROOT / 'build'
  make(made / 'site-source', made / 'docs')
  print(f'{made / "docs" / "index.html"}; to search it, too:')
  print('  python -m http.server --bind 127.0.0.1 --directory build/docs')
