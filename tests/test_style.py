"""The rules of the code base that a parser can check."""

import ast
import re
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
MODULES = {
  path: ast.parse(path.read_text(encoding='utf-8'))
  for path in [*sorted(ROOT.glob('minigpt/**/*.py')), *ROOT.glob('*.py')]
}
# Each package imports only from those before it; BUILD.md says what each holds.
LAYERS = (
  'errors',
  'config',
  'runtime',
  'tokenizers',
  'compiler',
  'model',
  'kernels',
  'data',
  'checkpoints',
  'generation',
  'training',
  'analysis',
  'profiling',
  'serving',
  'conformance',
  'http_server',
  'commands',
)
# Modules that may import every package.
ABOVE = ([], ['__main__'], ['api'])
# Words about compilation, which have no place in the equations.
NOT_IN_MODEL = (
  'xla|onednn|cuda|lowering|backend|barrier|chunk|remat|packed|int8'
)
# Each of these libraries is imported in only one module.
CONFINED = {
  'tiktoken',
  'tensorflow_datasets',
  'safetensors',
  'matplotlib',
  'tqdm',
  'tensorflow_serving',
  'jinja2',
  'starlette',
  'uvicorn',
}


def name_of(path):
  parts = path.relative_to(ROOT).with_suffix('').parts
  return '.'.join(parts[:-1] if parts[-1] == '__init__' else parts)


def imports(tree):
  """Yields the full names of all imports of a module."""
  for node in ast.walk(tree):
    if isinstance(node, ast.Import):
      yield from (alias.name for alias in node.names)
    elif isinstance(node, ast.ImportFrom):
      yield from (f'{node.module}.{alias.name}' for alias in node.names)


def ours(tree):
  """Yields the modules of this package that a module imports."""
  known = {name_of(path) for path in MODULES}
  for name in imports(tree):
    for candidate in (name, name.rpartition('.')[0]):
      if candidate in known:
        yield candidate
        break


@pytest.mark.parametrize('path', MODULES, ids=name_of)
def test_no_keras(path):
  """Keras occurs in no name, attribute, import or string."""
  for node in ast.walk(MODULES[path]):
    for field in ('id', 'attr', 'name', 'module', 'arg', 'value'):
      word = getattr(node, field, None)
      if isinstance(word, str):
        assert 'keras' not in word.lower(), f'line {node.lineno}'


def test_a_package_imports_only_from_those_before_it():
  wrong = []
  for path, tree in MODULES.items():
    importer = name_of(path).split('.')
    if importer[0] != 'minigpt' or importer[1:] in ABOVE:
      continue
    for imported in ours(tree):
      if imported == 'minigpt':
        continue  # For its version.
      if LAYERS.index(imported.split('.')[1]) > LAYERS.index(importer[1]):
        wrong.append(f'{".".join(importer)} imports {imported}')
  assert not wrong, '\n'.join(wrong)


def test_every_package_has_its_layer():
  found = {path.parent.name for path in ROOT.glob('minigpt/*/__init__.py')}
  found |= {path.stem for path in ROOT.glob('minigpt/*.py')}
  assert found - {'__init__', '__main__', 'api'} == set(LAYERS)


def test_the_table_of_build_md_is_the_list_of_layers():
  text = (ROOT / 'BUILD.md').read_text(encoding='utf-8')
  rows = re.findall(r'^\| `(\w+)/?` \| ', text, re.MULTILINE)
  assert rows == list(LAYERS)


def test_no_function_is_longer_than_forty_lines():
  long = [
    f'{name_of(path)}.{node.name}: {node.end_lineno - node.lineno + 1} lines'
    for path, tree in MODULES.items()
    for node in ast.walk(tree)
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    and node.end_lineno - node.lineno >= 40
  ]
  assert not long, '\n'.join(long)


def test_the_model_is_its_equations():
  """`model/` is short, and has no word about compilation."""
  files = sorted(ROOT.glob('minigpt/model/*.py'))
  texts = {file: file.read_text(encoding='utf-8') for file in files}
  for file, text in texts.items():
    found = re.search(NOT_IN_MODEL, text, re.IGNORECASE)
    assert not found, f'{file.name}: {found[0]}'
  assert sum(text.count('\n') for text in texts.values()) < 900


def test_imports_form_no_cycle():
  graph = {
    name_of(path): set(ours(tree)) - {name_of(path), 'minigpt'}
    for path, tree in MODULES.items()
  }
  assert len(list(TopologicalSorter(graph).static_order())) >= len(graph)


def test_only_commands_know_of_flags():
  for path, tree in MODULES.items():
    name = name_of(path)
    if name.startswith('minigpt.commands.') or name == 'minigpt.runtime.app':
      continue
    assert 'absl.flags' not in set(imports(tree)), path
    assert not any(n.startswith('minigpt.commands.') for n in ours(tree)), path


def test_optional_libraries_are_imported_in_one_module_each():
  found = {library: set() for library in CONFINED}
  for path, tree in MODULES.items():
    for name in imports(tree):
      if name.split('.')[0] in CONFINED:
        found[name.split('.')[0]].add(name_of(path))
  assert all(len(modules) <= 1 for modules in found.values()), found
