"""Work directories."""

import json

import pytest

from minigpt.checkpoints import workdir
from minigpt.errors import InputError, UsageError


def test_broken_configurations_name_the_file(tmp_path):
  path = tmp_path / 'config.json'
  for content in (
    *('', '{', '[]', '{"model": {}}', '{"model": 3}', '\ud800'),
    '{"model": {"emb_dim": 64.0}, "data": {}, "train": {}}',
    '{"model": {}, "data": {}, "train": {"learning_rate": 1e999}}',
    '{"model": {}, "data": {"stridde": 1}, "train": {}}',
  ):
    path.write_bytes(content.encode('utf-8', 'surrogatepass'))
    with pytest.raises((InputError, UsageError), match=r'config\.json'):
      workdir.load_config(tmp_path)


def test_what_killed_writers_left_is_swept(tmp_path):
  folder = workdir.checkpoints(tmp_path)
  (folder / '.tmp-step-00000001-99').mkdir(parents=True)
  (folder / '.tmp-step-00000001-99' / 'state.index').touch()
  (folder / 'step-00000001').mkdir()
  (tmp_path / '.tmp-config.json-99').touch()
  (tmp_path / 'tokenizer.json.tmp-99').touch()
  (tmp_path / 'config.json').touch()
  workdir.sweep(tmp_path)
  assert {p.name for p in tmp_path.rglob('*')} == {
    'checkpoints',
    'step-00000001',
    'config.json',
  }


@pytest.mark.parametrize(
  ('last_step', 'has_folder', 'is_refused'),
  [
    (0, False, False),
    (10, False, False),
    (11, False, True),
    (20, True, False),  # Killed while the first checkpoint was being written.
    (21, True, True),
  ],
)
def test_a_run_whose_checkpoints_are_gone_does_not_begin_again(
  tmp_path, last_step, has_folder, is_refused
):
  if has_folder:
    workdir.create_folders(tmp_path)
  if is_refused:
    with pytest.raises(InputError, match=f'reaches step {last_step}: restore'):
      workdir.check_has_checkpoints(tmp_path, last_step, 10)
  else:
    workdir.check_has_checkpoints(tmp_path, last_step, 10)


def test_a_run_of_an_earlier_version_reads_its_text_as_it_is(run_dir, tmp_path):
  """Otherwise its line ends would change when it is continued."""
  fields = json.loads((run_dir / 'config.json').read_text())
  assert fields['data'].pop('raw_text') is False
  (tmp_path / 'config.json').write_text(json.dumps(fields))
  assert workdir.load_config(tmp_path).data.raw_text
  assert not workdir.load_config(run_dir).data.raw_text
