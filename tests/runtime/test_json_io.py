"""JSON objects, and text that is none."""

import pytest

from minigpt.errors import InputError
from minigpt.runtime.json_io import parse_json, read_json


def test_an_object_is_read(tmp_path):
  (tmp_path / 'a.json').write_text('{"a": [1, "\u00e9"]}', encoding='utf-8')
  assert read_json(str(tmp_path / 'a.json')) == {'a': [1, '\u00e9']}
  assert parse_json(b'{"a": 1}', 'line 2') == {'a': 1}


@pytest.mark.parametrize(
  ('content', 'message'),
  [
    (b'{"a": ', 'a.json: it is not JSON'),
    (b'[' * 100_000, 'a.json: it is not JSON'),
    (b'{"\xff": 1}', 'a.json: it is not JSON'),
    (b'[1]', 'a.json: it is not a JSON object'),
  ],
)
def test_what_is_no_object_is_named(tmp_path, content, message):
  (tmp_path / 'a.json').write_bytes(content)
  with pytest.raises(InputError, match=message):
    read_json(tmp_path / 'a.json')


def test_a_missing_file_is_named(tmp_path):
  with pytest.raises(InputError, match=r'a\.json: No such file'):
    read_json(tmp_path / 'a.json')


def test_a_line_is_named():
  with pytest.raises(InputError, match='b, line 3: it is not JSON'):
    parse_json('x', 'b, line 3')
