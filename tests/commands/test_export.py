"""`minigpt export`, and its errors."""

from pathlib import Path

import helpers
import pytest

from minigpt.checkpoints import workdir
from minigpt.commands import export as command
from minigpt.kernels import prepacked_matmul
from minigpt.tokenizers.char import CharTokenizer

ROOT = Path(__file__).parents[2]


def test_each_format_has_flags_of_its_own():
  flags = ['--workdir=a', '--export_dir=b', '--format=stablehlo', '--xla']
  done = helpers.run('export.py', *flags)
  assert done.returncode == 2
  assert done.stderr == 'export.py: --xla is for --format=savedmodel\n'


def test_a_path_that_no_server_could_read_is_refused(tmp_path):
  flags = ['--workdir=a', f'--export_dir={tmp_path}/a[1]/tiny']
  done = helpers.run('export.py', *flags)
  assert done.returncode == 2
  assert done.stderr.count('\n') == 1 and 'a pattern' in done.stderr
  assert not list(tmp_path.iterdir())


def test_a_folder_without_a_name_is_refused(tmp_path, capsys):
  for folder in ('/', '..' + '/..' * 40, f'{tmp_path}/\udcff'):
    code = helpers.run_here('export', '--workdir=a', f'--export_dir={folder}')
    assert code == 2
    assert 'must end with a name in UTF-8' in capsys.readouterr().err


@pytest.mark.parametrize('folder', ['.', '../tiny', 'below/..'])
def test_a_compiled_twin_lies_beside_the_model(folder, tmp_path, monkeypatch):
  base, made = tmp_path / 'tiny', []
  (base / 'below').mkdir(parents=True)
  monkeypatch.chdir(base)
  monkeypatch.setattr(command, 'load_trained', lambda path: None)
  monkeypatch.setattr(command, 'summary', str)
  monkeypatch.setattr(
    command, 'export', lambda trained, base, *_: made.append(base.resolve())
  )
  flags = ['--workdir=a', f'--export_dir={folder}', '--xla']
  assert helpers.run_here('export', *flags) == 0
  assert made == [base, tmp_path / 'tiny-xla']


@pytest.mark.skipif(
  not prepacked_matmul.available(),
  reason="this TensorFlow lacks oneDNN's kernels",
)
def test_the_program_and_its_faults(model, tmp_path):
  run, base = tmp_path / 'run', tmp_path / 'models' / 'tiny'
  characters = CharTokenizer('abcdefghijklmnopq')
  workdir.write(run, model.config, model.params, characters)
  base.mkdir(parents=True)
  program = ROOT / 'export.py'
  flags = [f'--workdir={run}', '--export_dir=.', '--version=3']
  more = ['--serving_config', '--compute_dtype=bfloat16']
  done = helpers.run(program, *flags, *more, cwd=base)
  assert done.returncode == 0, done.stderr
  assert str(base / '3') in done.stdout
  assert 'was not measured' in done.stdout
  assert 'needs a server of TensorFlow for x86' in done.stdout
  card = (base / '3' / 'assets.extra' / 'model.json').read_text()
  assert '"weights": "bfloat16"' in card and 'AVX-512' in card
  assert 'docker run' in done.stdout
  assert (base / '3' / 'saved_model.pb').is_file()
  inside = (base / '3' / 'batching_params.pbtxt').read_text()
  assert inside == (base / 'batching.config').read_text()
  again = helpers.run(program, *flags, cwd=base)
  assert again.returncode == 1
  assert again.stderr.count('\n') == 1
  assert 'exists already' in again.stderr
