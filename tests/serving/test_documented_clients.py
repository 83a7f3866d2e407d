"""The clients of the documents, against an emulator of the server and a door.

A block whose mark is `<!-- run by: serving/test_documented_clients.py -->` runs
here; tests/test_docs.py holds the mark.
"""

import contextlib
import io
import re
import shutil
import subprocess

import helpers
import pytest

pytest.importorskip('tensorflow_serving', reason='no tensorflow-serving-api')
from http_server_fixtures import serve
from serving_emulator import emulator


@pytest.fixture(scope='module')
def here(export_dir, session):
  """Replacements of the documents' addresses and prompts."""
  pytest.importorskip('starlette', reason='no starlette')
  with emulator(export_dir, session) as served, serve(session) as door:
    yield {
      'localhost:8501': served.rest,
      'localhost:8000': door.url.removeprefix('http://'),
      'models/shakespeare/1': str(export_dir),
      'ROMEO:': 'abc',
      'JULIET:': 'bcd',
      'to be': 'a be',
      'or not': 'acl',
      '"max_new_tokens": 40': '"max_new_tokens": 9',
      'Request(seed=1)': 'Request(9, seed=1)',
      'max_tokens=50': 'max_tokens=9',
      '"max_tokens": 50': '"max_tokens": 9',
    }


def blocks(document, language, here):
  """Returns the code of a page, with this test's addresses and prompts."""
  text = (helpers.ROOT / document).read_text(encoding='utf-8')
  marked = (
    r'<!-- run by: serving/test_documented_clients.py -->\n'
    rf'```{language}\n(.*?)```'
  )
  found = re.findall(marked, text, re.DOTALL)
  for documented, ours in here.items():
    found = [code.replace(documented, ours) for code in found]
  return found


def answer_of(*command):
  if not shutil.which(command[0]):
    pytest.skip(f'no {command[0]}')
  return subprocess.run(
    command, check=True, capture_output=True, text=True, timeout=60
  ).stdout


def printed_by(blocks):
  """Runs blocks that continue each other; returns their output."""
  printed, names = io.StringIO(), {}
  with contextlib.redirect_stdout(printed):
    for code in blocks:
      exec(code, names)
  return printed.getvalue()


def test_curl(here):
  default, chosen = blocks('docs/clients.md', 'sh', here)
  assert answer_of('bash', '-c', default).count('"text"') == 2
  assert answer_of('bash', '-c', chosen).count('"log_prob"') == 1


def test_python(here):
  urllib, tensorflow = blocks('docs/clients.md', 'python', here)
  texts = eval(printed_by([urllib]))
  assert len(texts) == 2 and all(isinstance(text, str) for text in texts)
  assert printed_by([tensorflow])


def test_javascript(here):
  [code] = blocks('docs/clients.md', 'text', here)
  printed = answer_of('node', '--input-type=module', '-e', code)
  assert printed.startswith('[') and printed.count("'") >= 4


def test_a_door_and_a_server_answer_the_page_on_serving(here):
  door, server = blocks('docs/serving.md', 'sh', here)
  assert '"finish_reason":' in answer_of('bash', '-c', door)
  assert '"text"' in answer_of('bash', '-c', server)
  pytest.importorskip('openai')
  assert len(printed_by(blocks('docs/serving.md', 'python', here))) == 9


def test_the_client_of_the_package_answers_and_streams(here):
  answers, stream = blocks('docs/serve_check.md', 'python', here)
  printed = printed_by([answers, stream])
  log_probs = re.findall(r'-\d+\.\d+', printed)
  assert len(log_probs) == 2 and not printed.endswith('\n')
