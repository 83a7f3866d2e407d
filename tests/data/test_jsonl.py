"""Examples in JSON lines."""

import pytest

from minigpt.data import jsonl
from minigpt.data.jsonl import Choice, Pair
from minigpt.errors import InputError


def test_the_three_forms(tmp_path):
  file = tmp_path / 'x.jsonl'
  file.write_text('{"prompt": "a", "completion": " b"}\n\n')
  assert jsonl.read_pairs(file) == [Pair(f'{file}, line 1', 'a', ' b')]
  file.write_text('\n{"text": " to be or not\\n"}')
  assert jsonl.read_last_words(file) == [
    Pair(f'{file}, line 2', 'to be or', ' not')
  ]
  file.write_text('{"ind": 4, "ctx": "a", "endings": ["b", "c"], "label": "1"}')
  assert jsonl.read_choices(file) == [
    Choice(f'{file}, line 1', 'a', ('b', 'c'), 1)
  ]


def test_a_byte_order_mark_is_no_part_of_the_first_line(tmp_path):
  file = tmp_path / 'x.jsonl'
  file.write_text('\ufeff{"prompt": "\ufeffa", "completion": "b"}\n')
  [pair] = jsonl.read_pairs(file)
  assert pair == Pair(f'{file}, line 1', '\ufeffa', 'b')


@pytest.mark.parametrize(
  ('read', 'line', 'message'),
  [
    (jsonl.read_pairs, '{"prompt": "a"', 'line 2: it is not JSON'),
    (jsonl.read_pairs, '[' * 100_000, 'line 2: it is not JSON'),
    (jsonl.read_pairs, '[1]', 'line 2: it is not a JSON object'),
    (jsonl.read_pairs, '{"prompt": 1}', 'line 2: prompt is 1'),
    (
      jsonl.read_pairs,
      '{"prompt": "a", "completion": ""}',
      'line 2: its completion is empty',
    ),
    (jsonl.read_last_words, '{"text": "one"}', 'fewer than two words'),
    (
      jsonl.read_choices,
      '{"ctx": "a", "endings": ["b"], "label": 0}',
      'line 2: endings must be',
    ),
    (
      jsonl.read_choices,
      '{"ctx": "a", "endings": ["b", "c"], "label": 2}',
      'line 2: label is 2; it must be one of 0 to 1',
    ),
  ],
)
def test_lines_that_are_wrong(tmp_path, read, line, message):
  file = tmp_path / 'x.jsonl'
  file.write_text(f'\n{line}\n')
  with pytest.raises(InputError, match=message):
    read(file)


def test_files_that_are_wrong(tmp_path):
  file = tmp_path / 'x.jsonl'
  with pytest.raises(InputError, match='No such file'):
    jsonl.read_pairs(file)
  file.write_text(' \n\n')
  with pytest.raises(InputError, match='holds no examples'):
    jsonl.read_pairs(file)
  file.write_bytes(b'{"\xff')
  with pytest.raises(InputError, match='not UTF-8'):
    jsonl.read_pairs(file)
