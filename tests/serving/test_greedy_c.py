"""The export without Python: a C program writes the same text."""

import shutil
import subprocess
from pathlib import Path

import pytest
import tensorflow as tf

from minigpt.conformance.serving_session import read_saved_model
from minigpt.generation.request import Request
from minigpt.serving.client import sampling_inputs

# In the order of the program's inputs.
OPTIONS = (
  'max_new_tokens',
  'temperature',
  'top_k',
  'top_p',
  'repetition_penalty',
  'min_new_tokens',
  'seed',
)
SOURCE = Path(__file__).with_name('greedy.c')
COMPILER = shutil.which('cc') or shutil.which('gcc') or shutil.which('clang')
pytestmark = pytest.mark.skipif(COMPILER is None, reason='no C compiler')


@pytest.fixture(scope='module')
def program(tmp_path_factory):
  library = Path(tf.sysconfig.get_lib())
  path = tmp_path_factory.mktemp('bin') / 'greedy'
  command = [
    COMPILER,
    str(SOURCE),
    '-o',
    str(path),
    f'-I{tf.sysconfig.get_include()}',
    f'-L{library}',
    f'-Wl,-rpath,{library}',
    # The default linker takes many times as long to read so large a library.
    *(['-fuse-ld=gold'] if shutil.which('ld.gold') else []),
    '-l:libtensorflow_cc.so.2',
    '-l:libtensorflow_framework.so.2',
  ]
  done = subprocess.run(command, capture_output=True, text=True)
  assert done.returncode == 0, done.stderr
  return path


def operations(export_dir):
  """Returns the names of the signature's operations, for the program."""
  signature = read_saved_model(export_dir).signature_def['generate']
  inputs = {k: v.name.split(':')[0] for k, v in signature.inputs.items()}
  text = signature.outputs['text_bytes'].name.split(':')
  return [inputs['prompt'], *text, *(inputs[name] for name in OPTIONS)]


def test_the_c_program_writes_the_same_greedy_text(
  session, export_dir, program
):
  prompt, n_new = 'ab\u00dfc', 9
  how = sampling_inputs(Request(n_new, temperature=0), 1)
  expected = session.predict('generate', {'prompt': [prompt], **how})
  done = subprocess.run(
    [program, export_dir, prompt, str(n_new), *operations(export_dir)],
    capture_output=True,
  )
  assert done.returncode == 0, done.stderr.decode()
  assert done.stdout == expected['text_bytes'][0]
  assert len(done.stdout.decode()) == n_new
