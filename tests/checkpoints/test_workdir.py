"""Work directories."""

import pytest

from minigpt.checkpoints import workdir
from minigpt.errors import InputError, UsageError


def test_broken_configurations_name_the_file(tmp_path):
  path = tmp_path / 'config.json'
  for content in ('', '{', '[]', '{"model": {}}', '{"model": 3}', '\ud800'):
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
