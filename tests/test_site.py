"""The site builds, without broken links and without external resources."""

import re
import sys
from pathlib import Path

import helpers
import pytest

pytest.importorskip('mkdocs')
pytest.importorskip('material')
pytest.importorskip('mkdocstrings')
pytest.importorskip('latex2mathml')


@pytest.fixture(scope='module')
def site_build():
  sys.path.insert(0, str(helpers.ROOT / 'docs' / 'site'))
  try:
    import build

    yield build
  finally:
    sys.path.pop(0)


@pytest.fixture(scope='module')
def site(site_build, tmp_path_factory):
  folder = tmp_path_factory.mktemp('site')
  site_build.make(folder / 'source', folder / 'site')
  return folder / 'site'


def test_the_start_page_has_what_the_readme_has(site):
  page = (site / 'index.html').read_text(encoding='utf-8')
  assert 'From a text to a served answer' in page
  assert 'docs/images/architecture.svg' in page


def test_pages_can_be_searched(site):
  index = (site / 'search' / 'search_index.json').read_text(encoding='utf-8')
  assert 'temperature' in index and 'minigpt.model.layers.gelu' in index


def test_formulas_are_drawn_by_the_browser(site):
  page = (site / 'docs/lesson/4_attention.html').read_text(encoding='utf-8')
  assert '<math' in page and 'display="block"' in page and '<mfrac>' in page
  assert 'arithmatex' not in page and '$$' not in page
  for chapter in site.glob('docs/lesson/*.html'):
    formulas = re.findall('<math.*?</math>', chapter.read_text('utf-8'))
    assert not any('\\' in formula for formula in formulas), chapter


def test_every_module_has_its_reference(site, site_build):
  for package in site_build.packages():
    page = (site / f'reference/{package}.html').read_text(encoding='utf-8')
    modules = (helpers.ROOT / 'minigpt' / package).glob('[!_]*.py')
    for module in modules:
      assert f'id="minigpt.{package}.{module.stem}"' in page, module


def test_nothing_is_fetched_when_a_page_is_viewed(site):
  for page in site.rglob('*.html'):
    text = page.read_text(encoding='utf-8')
    fetched = re.findall(r'(?:src|<link[^>]*href)="https?:[^"]*"', text)
    assert not fetched, page


def test_links_to_code_lead_to_its_reference(site_build):
  page = Path('docs/a.md')
  text = '[a](../minigpt/model/layers.py) [b](install.md) [c](../Makefile)'
  assert site_build.with_links(text, page) == (
    '[a](../reference/model.md) [b](install.md) c'
  )


def test_a_list_in_a_docstring_stays_a_list(site):
  page = (site / 'reference/model.html').read_text(encoding='utf-8')
  lines = re.sub('<[^>]+>', '', page).splitlines()
  assert 'causal_attention  ... but never at a later one' in lines
