"""minigpt export, and what it refuses."""

from pathlib import Path

import helpers

from minigpt.checkpoints import workdir
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


def test_the_program_and_its_faults(model, tmp_path):
  run, base = tmp_path / 'run', tmp_path / 'models' / 'tiny'
  characters = CharTokenizer('abcdefghijklmnopq')
  workdir.write(run, model.config, model.params, characters)
  flags = [f'--workdir={run}', f'--export_dir={base}', '--version=3']
  more = ['--serving_config', '--weights=bfloat16']
  done = helpers.run('export.py', *flags, *more)
  assert done.returncode == 0, done.stderr
  assert str(base / '3') in done.stdout
  assert 'was not measured' in done.stdout
  assert 'docker run' in done.stdout
  assert (base / '3' / 'saved_model.pb').is_file()
  assert (base / 'batching.config').is_file()
  again = helpers.run('export.py', *flags)
  assert again.returncode == 1
  assert again.stderr.count('\n') == 1
  assert 'is there already' in again.stderr
