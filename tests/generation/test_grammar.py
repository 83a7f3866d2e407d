"""Grammars from files."""

import json

import pytest

from minigpt.errors import InputError, UsageError
from minigpt.generation import grammar


def test_files_hold_expressions_and_schemas(tmp_path):
  (tmp_path / 'n.regex').write_text('[0-9]+\n')
  (tmp_path / 's.schema.json').write_text('{"type": "null"}')
  found = grammar.read_all(
    [f'n={tmp_path}/n.regex', f's={tmp_path}/s.schema.json']
  )
  assert found[0] == grammar.Grammar('n', '[0-9]+')
  assert found[1].schema == {'type': 'null'}
  listed = json.loads(json.dumps({g.name: g.describe() for g in found}))
  assert tuple(grammar.from_card(listed)) == found


@pytest.mark.parametrize(
  'flags, kind, said',
  [
    (['n'], UsageError, 'give NAME=FILE'),
    (['a b=x.regex'], UsageError, "grammar='a b': name it"),
    (['=x.regex'], UsageError, "grammar='': name it"),
    (['n=x.txt'], UsageError, 'give FILE.regex or FILE.schema.json'),
    (['n=x.regex'], InputError, 'x.regex cannot be read'),
    (['n=x.schema.json'], InputError, 'grammar n: x.schema.json'),
    (['n=ok.regex', 'n=ok.regex'], UsageError, 'grammar=n comes twice'),
    (['n=bad.schema.json'], InputError, 'grammar n: the schema: type=3'),
  ],
)
def test_flags_and_files_that_are_wrong(
  flags, kind, said, tmp_path, monkeypatch
):
  monkeypatch.chdir(tmp_path)
  (tmp_path / 'ok.regex').write_text('a')
  (tmp_path / 'bad.schema.json').write_text('{"type": 3}')
  with pytest.raises(kind) as error:
    grammar.read_all(flags)
  assert said in str(error.value)


def test_schemas_are_the_same_in_any_order():
  one, other = {'a': 1, 'b': [1, 2]}, {'b': [1, 2], 'a': 1}
  assert grammar.same_schema(one, other)
  assert not grammar.same_schema(one, {'a': True, 'b': [1, 2]})
