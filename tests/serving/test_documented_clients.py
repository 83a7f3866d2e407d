"""The clients of docs/clients.md, against an emulator of the server."""

import re
import shutil
import subprocess
import sys

import helpers
import pytest

pytest.importorskip('tensorflow_serving', reason='no tensorflow-serving-api')
from serving_emulator import emulator

PAGE = (helpers.ROOT / 'docs' / 'clients.md').read_text(encoding='utf-8')


@pytest.fixture(scope='module')
def server(export_dir, session):
  with emulator(export_dir, session) as served:
    yield served


def blocks(language, server):
  """The page's code, with the emulator's address and prompts that it knows."""
  found = re.findall(rf'```{language}\n(.*?)```', PAGE, re.DOTALL)
  for documented, here in (
    ('localhost:8501', server.rest),
    ('ROMEO:', 'abc'),
    ('JULIET:', 'bcd'),
    ('"max_new_tokens": 40', '"max_new_tokens": 9'),
  ):
    found = [code.replace(documented, here) for code in found]
  return found


def answer_of(*command):
  if not shutil.which(command[0]):
    pytest.skip(f'no {command[0]}')
  return subprocess.run(
    command, check=True, capture_output=True, text=True, timeout=60
  ).stdout


def test_curl(server):
  default, chosen = blocks('sh', server)
  assert answer_of('bash', '-c', default).count('"text"') == 2
  assert answer_of('bash', '-c', chosen).count('"log_prob"') == 1


def test_python(server):
  printed = answer_of(sys.executable, '-c', blocks('python', server)[0])
  texts = eval(printed)
  assert len(texts) == 2 and all(isinstance(text, str) for text in texts)


def test_javascript(server):
  [code] = blocks('text', server)
  printed = answer_of('node', '--input-type=module', '-e', code)
  assert printed.startswith('[') and printed.count("'") >= 4


def test_tensorflow_without_a_server(server, export_dir, capsys):
  code = blocks('python', server)[1]
  exec(code.replace('models/shakespeare/1', str(export_dir)), {})
  assert capsys.readouterr().out
