"""Every block of shell or Python in the documents runs, at toy sizes.

Documents run in the order below, in one folder, so that one may use what
another has made. A block that cannot run here has a comment above its fence,
invisible in the document: <!-- not run: the reason -->, or, where another test
has the server that it asks, <!-- run by: the test -->. Those of the lesson are
quotes and solutions, which tests/test_lesson.py runs.
"""

import functools
import json
import re
import runpy
import string
import subprocess
from typing import NamedTuple

import helpers
import pytest

import minigpt
from minigpt import tokenizers
from minigpt.checkpoints import huggingface
from minigpt.compiler import backend
from minigpt.config import GPTConfig
from minigpt.model.params import init_params

ROOT = helpers.ROOT
_FIRST = ['README.md', 'BUILD.md', 'CONTRIBUTING.md', 'CHANGELOG.md']
DOCUMENTS = [
  *_FIRST,
  *sorted(
    str(path.relative_to(ROOT))
    for folder in ('docs', 'examples')
    for path in ROOT.glob(f'{folder}/**/*.md')
  ),
  'benchmarks/README.md',
  'benchmarks/log.md',
]
FENCED = re.compile(
  r'(?:<!-- (not run|run by): ([^>]*) -->\n)?```(.*)\n((?:.*\n)*?)```\n'
)
TEXT = f'{string.ascii_letters} :,.\n' * 20
SMALL = (
  '--context_length=16 --emb_dim=8 --n_heads=2 --n_layers=1 --batch_size=2'
)
# Flags that reduce a command to toy size, after those of the document.
TOY = {
  'minigpt train': [
    '--steps=2',
    '--steps_per_call=1',
    '--eval_batches=1',
    '--compile=graph',
  ],
  'minigpt generate': ['--max_new_tokens=4'],
  'minigpt serve-check': ['--json'],
  'minigpt bench': [
    '--preset=mini',
    '--n_layers=1',
    '--prompt_length=8',
    '--new_tokens=2',
    '--repeats=1',
  ],
  'benchmarks/served.py': [
    '--preset=mini',
    '--vocab_size=20',
    '--prompt_length=4',
    '--new_tokens=3',
    '--long_prompt=8',
    '--formats=float32',
    '--rounds=1',
  ],
  'benchmarks/speculation.py': [
    '--places=1',
    '--prompt_length=8',
    '--new_tokens=2',
    '--speculate=4',
  ],
}
# The scripts in the root, and the commands that they run.
STUBS = {
  'train.py': 'train',
  'export.py': 'export',
  'serve_check.py': 'serve-check',
}
# And what stands for a flag that cannot be cut so. The first model of a reader
# is that of the other documents: so it is trained and exported once.
INSTEAD = {
  '--dataset=my.txt': '--dataset=data/a.txt',
  '--workdir=runs/first': '--workdir=runs/shakespeare',
  '--export_dir=models/first': '--export_dir=models/shakespeare',
  '--export_dir=models/first/1': '--export_dir=models/shakespeare/1',
  '--dataset=tiny_shakespeare': '--dataset=data/a.txt',
  '--dataset=stdlib': '--dataset=data/a.txt',
  '--tokenizer=gpt2': '--tokenizer=words.json',
  '--stride=64': '--stride=8',
  '--profile_steps=200:300': '--profile_steps=1:2',
  '--preset=gpt2-124m': '--dry_run',
  '--context_length=512': '--context_length=16',
  '--context_length=1024': '--context_length=16',
  '--prompt_length=512': '--prompt_length=8',
  '--batch_sizes=1,8': '--batch_sizes=1',
  '--xla': '--rounds=1',  # Without XLA, as compiling takes longest.
}
# Commands that a block may contain.
RECORD = """
record() { printf '%s\\0' $# "$@"; }
python() { record "$@"; }
minigpt() { record -m minigpt "$@"; }
saved_model_cli() { record -m tensorflow.python.tools.saved_model_cli "$@"; }
PATH=
"""


class Block(NamedTuple):
  mark: str | None  # not run, run by
  why: str | None
  language: str
  code: str


def blocks(document):
  """Returns the blocks of code of a document."""
  text = (ROOT / document).read_text(encoding='utf-8')
  found = [Block(*match.groups()) for match in FENCED.finditer(text)]
  assert 2 * len(found) == text.count('\n```')
  return found


SHELL = [
  pytest.param(
    block.code,
    id=f'{document}-{i}',
    marks=[pytest.mark.skip(reason=f'{block.mark}: {block.why}')]
    if block.mark
    else [],
  )
  for document in DOCUMENTS
  for i, block in enumerate(blocks(document))
  if block.language == 'sh'
]
# Pages with Python, except the lesson; the blocks of a page share names.
PYTHON = {
  document: code
  for document in DOCUMENTS
  if not document.startswith('docs/lesson/')
  for code in [
    [b.code for b in blocks(document) if b.language == 'python' and not b.mark]
  ]
  if code
}
# A run of the front door, at toy size.
SMALL_RUN = dict(
  **{'context_length': 16, 'emb_dim': 8, 'n_heads': 2, 'batch_size': 2},
  **{'epochs': 0, 'steps': 2, 'steps_per_call': 1, 'compile': 'graph'},
)


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
  """The files that the documents take for granted."""
  path = tmp_path_factory.mktemp('docs')
  (path / 'data').mkdir()
  (path / 'data' / 'a.txt').write_text(TEXT)
  pair = json.dumps({'prompt': 'to be', 'completion': ' or not'})
  (path / 'pairs.jsonl').write_text(f'{pair}\n' * 8)
  (path / 'path' / 'to').mkdir(parents=True)
  letters = tokenizers.build('char', TEXT)
  config = GPTConfig(letters.vocab_size, 64, 8, 2, 1, qkv_bias=True)
  huggingface.write(path / 'path/to/gpt2', config, init_params(config), letters)
  tokenizers.save(tokenizers.build('word', TEXT), path / 'words.json')
  (path / 'models').mkdir()
  (path / 'models' / 'mini').symlink_to('shakespeare')
  return path


@pytest.fixture(scope='module')
def ran():
  """The commands that have run already."""
  return []


def commands(code, folder):
  """Returns the arguments of each command, as a shell parses them."""
  done = subprocess.run(
    ['bash', '-euc', RECORD + code], cwd=folder, capture_output=True, text=True
  )
  assert done.returncode == 0, done.stderr
  words = iter(done.stdout.split('\0')[:-1])
  for n in words:
    yield [next(words) for _ in range(int(n))]


def cut(command):
  """Returns the command at toy size, with full paths of scripts."""
  program, *flags = command
  if program in STUBS:
    command = ['-m', 'minigpt', STUBS[program], *flags]
  if command[:2] == ['-m', 'minigpt']:
    program, flags = f'minigpt {command[2]}', command[3:]
  elif command[0] == '-m':
    program, flags = command[1], command[2:]
  flags = [INSTEAD.get(flag, flag) for flag in flags] + TOY.get(program, [])
  if program == 'minigpt train' and not any('--init_from' in f for f in flags):
    flags += SMALL.split()
  if command[0] == '-m':
    return ['-m', *program.split(), *flags]
  return [ROOT / program, *flags]


@pytest.mark.parametrize('code', SHELL)
def test_a_shell_block_runs(code, folder, ran):
  for command in map(cut, commands(code, folder)):
    if command not in ran:
      done = helpers.run(*command, cwd=folder)
      assert done.returncode == 0, (command, done.stdout, done.stderr)
      ran.append(command)
      if 'serve-check' in command:
        assert_all_pass(json.loads(done.stdout))


@pytest.mark.parametrize('document', PYTHON)
def test_python_blocks_run(document, folder, monkeypatch):
  """Uses the run that the shell blocks have made, without XLA."""
  monkeypatch.chdir(folder)
  small = functools.partial(minigpt.train, **SMALL_RUN)
  monkeypatch.setattr(minigpt, 'train', small, raising=False)
  monkeypatch.setattr(backend, 'resolve_mode', lambda *_, **__: 'graph')
  names = {}
  for code in PYTHON[document]:
    exec(code, names)


MARKED = [
  (document, block)
  for document in DOCUMENTS
  for block in blocks(document)
  if block.mark == 'run by'
]


@pytest.mark.parametrize(('document', 'block'), MARKED)
def test_a_block_is_run_by_the_test_that_it_names(document, block):
  """That test reads the block from its page."""
  source = (ROOT / 'tests' / block.why).read_text(encoding='utf-8')
  assert f"'{document}'" in source


def assert_all_pass(report):
  assert report['passed']
  assert {check['status'] for check in report['checks']} == {'pass'}
  assert report['size_bytes'] > 0


@pytest.mark.parametrize('document', DOCUMENTS)
def test_every_block_says_what_it_is(document):
  """A block without a language could hide commands that never run."""
  found = {block.language for block in blocks(document)}
  assert found <= {'sh', 'python', 'text'}


# A file of the repository: a link's target, or a path in backticks.
LINKED = re.compile(r'\]\(([^)#:]+)(?:#[^)]*)?\)')
NAMED = re.compile(r'`((?:minigpt|tests|docs|benchmarks|examples)/[\w/.-]+)`')


@pytest.mark.parametrize('document', DOCUMENTS)
def test_what_a_document_names_is_there(document):
  path = ROOT / document
  text = path.read_text(encoding='utf-8')
  named = {path.parent / target for target in LINKED.findall(text)}
  named |= {ROOT / target for target in NAMED.findall(text)}
  assert [str(each) for each in named if not each.exists()] == []


def test_the_users_page_on_performance_stays_short():
  """What was tried, and on which machine, is in pages for maintainers."""
  text = (ROOT / 'docs/performance.md').read_text(encoding='utf-8')
  assert text.count('\n') < 100


def test_every_page_is_found_from_the_index():
  """By a link of it, or of a README that it links to."""
  index = ROOT / 'docs/README.md'

  def linked(page):
    targets = LINKED.findall(page.read_text(encoding='utf-8'))
    return {(page.parent / target).resolve() for target in targets}

  found = linked(index)
  for page in [p for p in found if p.name == 'README.md']:
    found |= linked(page)
  pages = {(ROOT / document).resolve() for document in DOCUMENTS}
  assert pages - found - {index, ROOT / 'README.md'} == set()


@pytest.mark.parametrize('document', DOCUMENTS)
def test_what_python_blocks_import_is_there(document):
  code = [b.code for b in blocks(document) if b.language == 'python']
  imports = [
    line
    for line in '\n'.join(code).splitlines()
    if line.startswith(('import minigpt', 'from minigpt'))
  ]
  exec('\n'.join(imports), {})


def test_every_named_fault_has_its_test():
  text = (ROOT / 'docs/reference/faults.md').read_text(encoding='utf-8')
  rows = re.findall(r'`(\w+/test_\w+\.py)(?: -k "?([\w ]+?)"?)?`', text)
  assert len(rows) > 20
  for file, names in rows:
    source = (ROOT / 'tests' / file).read_text(encoding='utf-8')
    tests = re.findall(r'def (test_\w+)', source)
    for name in names.split(' or ') if names else []:
      assert any(name in test for test in tests), (file, name)


def written_by(script):
  """Returns the names that a script of the documents defines."""
  return runpy.run_path(str(ROOT / script))


def test_pages_made_by_scripts_are_as_these_make_them():
  commands = written_by('docs/reference/commands.py')['page']()
  page = ROOT / 'docs/reference/commands.md'
  assert page.read_text(encoding='utf-8') == commands, 'run `make update`'
  picture = written_by('docs/images/architecture.py')['draw'](GPTConfig())
  path = ROOT / 'docs/images/architecture.svg'
  assert path.read_text(encoding='utf-8') == picture, 'run `make update`'
  tables = written_by('benchmarks/tables.py')
  for name in tables['PAGES']:
    text = (ROOT / name).read_text(encoding='utf-8')
    assert tables['fill'](text) == text, 'run `make update`'


# Words of the code base's early days, with standard terms instead today.
PRIVATE = r"""likeliest|thrifty|\btapped\b|\banew\b|\bwhatever\b|is to be\b"""


@pytest.mark.parametrize('document', DOCUMENTS)
def test_documents_use_the_words_of_the_field(document):
  text = (ROOT / document).read_text(encoding='utf-8')
  assert not re.findall(PRIVATE, text)
