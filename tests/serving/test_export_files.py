"""Reading the files of an export."""

import pytest

from minigpt.errors import InputError
from minigpt.serving import export_files


def test_the_files_of_an_export_tell_of_its_model(export_dir):
  files = export_files.read(export_dir)
  assert (files.name, files.context_length) == ('shakespeare', 12)
  assert files.tokenizer.vocab_size == 17
  assert files.stop == files.compiled_sizes == ()


@pytest.mark.parametrize(
  ('content', 'words'),
  [
    (None, 'was not exported by minigpt'),
    ('{"name": "a"', r'model\.json'),
    ('{"name": "a", "model": 3}', r'model\.json: no model card'),
  ],
)
def test_a_card_that_is_none_is_named(tmp_path, content, words):
  (tmp_path / 'assets.extra').mkdir()
  (tmp_path / 'assets').mkdir()
  tokenizer = '{"kind": "char", "characters": "ab"}'
  (tmp_path / 'assets' / 'tokenizer.json').write_text(tokenizer)
  if content:
    (tmp_path / 'assets.extra' / 'model.json').write_text(content)
  with pytest.raises(InputError, match=words):
    export_files.read(tmp_path)


def test_what_ends_every_answer_is_a_list_of_texts(tmp_path):
  path = tmp_path / 'model.json'
  assert export_files.stops({'stop': ['a', '\n']}, path) == ('a', '\n')
  assert export_files.stops({}, path) == ()
  for bad in ('ab', [''], [1], None):
    with pytest.raises(InputError, match=r'model\.json: stop='):
      export_files.stops({'stop': bad}, path)
